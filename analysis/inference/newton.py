"""A pyhf optimiser for the JAX backend: projected Newton on the exact gradient and Hessian.

A HistFactory likelihood is smooth, has tens to hundreds of parameters, and JAX can differentiate
all of it: the Hessian costs about ten gradients, and with it a fit takes some ten steps. The whole
minimisation is one compiled function of data, start, bounds and fixed parameters, so that fits of
toys, of a scan or of a ranking compile nothing anew.

Method: D. P. Bertsekas, Projected Newton methods for optimization problems with simple
constraints, SIAM J. Control Optim. 20 (1982) 221. Parameters at a bound that the gradient pushes
them against are held there; the others take a Newton step, which is projected onto the bounds and
halved until the objective decreases enough.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import OptimizeResult

from analysis.inference.optimizer import DirectOptimizer, Problem, covariance_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MAX_STEPS: Final = 1000
"""Newton steps, of a millisecond each. The reference fit takes 9, and a fit of data without ttbar,
which begins a million away in likelihood, 105."""

TOLERANCE: Final = 1e-8
"""Largest decrease in twice the negative log likelihood that the quadratic model may still predict at
the end of a fit. Minuit's, as pyhf sets it, is 2e-4."""

MAX_HALVINGS: Final = 40
SUFFICIENT: Final = 1e-4
"""Share of the decrease predicted by the gradient that a step must reach (Armijo's rule)."""

ROUNDING: Final = 1e-13
"""Relative decrease below which all is noise: the likelihood is a sum of large terms that cancel."""

AT_BOUND: Final = 1e-9
"""Distance from a bound, relative to the range, within which a parameter is at the bound."""

MIN_CURVATURE: Final = 1e-8
"""Smallest eigenvalue that a step may use, of the Hessian scaled to a diagonal of 1."""


class State(NamedTuple):
    """State of a minimisation: parameters, and the objective with its derivatives there."""

    x: jax.Array
    value: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    decrease: jax.Array
    """Expected of the next step; at the end, the distance to the minimum."""
    steps: jax.Array
    stuck: jax.Array
    """Whether no smaller objective was found along the last step."""


@partial(jax.jit, static_argnames=("objective", "pdf", "max_steps"))
def _minimise(
    start: jax.Array,
    data: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    fixed: jax.Array,
    tolerance: float,
    *,
    objective: Callable[..., Any],
    pdf: Any,
    max_steps: int,
) -> State:
    """Minimise within bounds, in one compiled function."""

    def value(x: jax.Array) -> jax.Array:
        return jnp.reshape(objective(x, data, pdf), ())

    def evaluate(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def with_value(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            f, g = jax.value_and_grad(value)(x)
            return g, (f, g)

        hessian, (f, g) = jax.jacfwd(with_value, has_aux=True)(x)
        return f, g, hessian

    def direction(
        x: jax.Array, gradient: jax.Array, hessian: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Step, and the decrease that it promises."""
        margin = AT_BOUND * (upper - lower)
        held = fixed
        held |= (x <= lower + margin) & (gradient > 0)
        held |= (x >= upper - margin) & (gradient < 0)
        g = jnp.where(held, 0.0, gradient)
        curvature = jnp.abs(jnp.diag(hessian))
        scale = jnp.where(held | ~(curvature > 0), 1.0, jax.lax.rsqrt(curvature))
        free = ~held[:, None] & ~held[None, :]
        scaled = jnp.where(free, hessian * scale[:, None] * scale[None, :], 0.0)
        scaled += jnp.diag(jnp.where(held, 1.0, 0.0))

        # Where the Hessian is not positive definite, go downhill along each of its axes, by the
        # absolute curvature.
        values, vectors = jnp.linalg.eigh(scaled)
        size = jnp.maximum(jnp.abs(values), MIN_CURVATURE * jnp.max(jnp.abs(values)))
        step = -scale * (vectors @ ((vectors.T @ (g * scale)) / size))
        step = jnp.where(held, 0.0, step)
        return step, -0.5 * jnp.dot(g, step)

    def search(state: State, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Halve the step until the objective decreases; the new point, and whether it is stuck."""
        noise = ROUNDING * jnp.abs(state.value)

        def at(length: jax.Array) -> jax.Array:
            return jnp.clip(state.x + length * step, lower, upper)

        def short(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            length, halvings, f = carry
            promised = jnp.dot(state.gradient, state.x - at(length))
            # NaN, as of a negative expectation, is not a decrease.
            enough = f <= state.value - SUFFICIENT * promised + noise
            return ~enough & (halvings <= MAX_HALVINGS)

        def halve(
            carry: tuple[jax.Array, jax.Array, jax.Array],
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            length, halvings, _ = carry
            length = length / 2
            return length, halvings + 1, value(at(length))

        # The first halving gives the whole step.
        begin = (jnp.asarray(2.0), jnp.asarray(0), jnp.asarray(jnp.inf))
        length, halvings, _ = jax.lax.while_loop(short, halve, begin)
        stuck = halvings > MAX_HALVINGS
        return jnp.where(stuck, state.x, at(length)), stuck

    def unfinished(carry: tuple[State, jax.Array]) -> jax.Array:
        state, _ = carry
        return ~state.stuck & ~(state.decrease <= tolerance) & (state.steps < max_steps)

    def advance(carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        state, step = carry
        x, stuck = search(state, step)
        f, gradient, hessian = evaluate(x)
        step, decrease = direction(x, gradient, hessian)
        return State(x, f, gradient, hessian, decrease, state.steps + 1, stuck), step

    # The first iteration only evaluates the start, so that the compiled function contains the
    # likelihood just twice: that is what takes time to compile.
    x = jnp.where(fixed, start, jnp.clip(start, lower, upper))
    nowhere = State(
        x,
        jnp.asarray(jnp.inf),
        jnp.zeros_like(x),
        jnp.zeros((len(x), len(x))),
        jnp.asarray(jnp.inf),
        jnp.asarray(-1),
        jnp.asarray(False),  # noqa: FBT003  (an array)
    )
    last: State
    last, _ = jax.lax.while_loop(unfinished, advance, (nowhere, jnp.zeros_like(x)))
    return last


class newton_optimizer(DirectOptimizer):
    """Projected Newton for ``pyhf.set_backend("jax", newton_optimizer())``.

    Uncertainties are those of the inverse Hessian, 0 for a fixed parameter. `tolerance` is the
    largest decrease of the objective that may be left, `maxiter` counts Newton steps.
    """

    name = "newton"
    backend = "jax"

    def __init__(self, tolerance: float = TOLERANCE, maxiter: int = MAX_STEPS) -> None:
        super().__init__(tolerance, maxiter)

    def find(self, problem: Problem, tolerance: float, maxiter: int) -> OptimizeResult:
        """As `DirectOptimizer.find`."""
        state = _minimise(
            problem.start,
            jnp.asarray(problem.data, dtype=float),
            *problem.bounds.T,
            problem.fixed,
            tolerance,
            objective=problem.objective,
            pdf=problem.pdf,
            max_steps=maxiter,
        )
        return _result(state, problem.fixed, tolerance)


def _result(state: State, fixed: NDArray[np.bool_], tolerance: float) -> OptimizeResult:
    """The state as a result of SciPy's, of numpy arrays."""
    x, value, gradient, hessian, decrease, steps, stuck = (np.asarray(array) for array in state)
    finite = bool(
        np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(hessian).all()
    )
    # A step that finds nothing smaller is at the minimum if it promised only rounding errors.
    noise = 1e3 * ROUNDING * abs(float(value))
    success = finite and bool(decrease <= max(tolerance, noise if stuck else 0.0))
    if not finite:
        message = "the likelihood has no value here"
    elif success:
        message = "converged"
    elif stuck:
        message = f"no smaller value along the step, which promised {float(decrease):.2g}"
    else:
        message = f"a decrease of {float(decrease):.2g} is still expected"
    covariance = covariance_of(hessian, fixed)
    unc = np.sqrt(np.diag(covariance))
    scale = np.divide(1, unc, out=np.zeros_like(unc), where=unc > 0)
    return OptimizeResult(
        x=x,
        fun=float(value),
        jac=gradient,
        hess=hessian,
        hess_inv=covariance,
        unc=unc,
        corr=covariance * np.outer(scale, scale),
        nit=int(steps),
        success=success,
        message=message,
    )
