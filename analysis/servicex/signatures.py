"""S3 signatures: which requests for delivered files were signed with the endpoint's key."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import HmacV1Auth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

REGION: Final = "us-east-1"
CLOCKS: Final = timedelta(minutes=15)
"""How much clocks may differ, and how long a signed request is valid, as in S3."""
URL_SECONDS: Final = 7 * 24 * 3600
"""How long a URL is valid: the longest that these signatures allow."""


class Key(NamedTuple):
    """The key that clients sign with; the status of each transform has it."""

    access: str
    secret: str

    def url(self, url: str) -> str:
        """A signed URL, by which anyone can read the object for `URL_SECONDS`."""
        request = AWSRequest("GET", url)
        S3SigV4QueryAuth(Credentials(*self), "s3", REGION, URL_SECONDS).add_auth(request)
        return str(request.url)

    def signed(self, method: str, url: str, headers: Mapping[str, str]) -> bool:
        """Whether a request was signed with this key and has not expired.

        Header names are in lower case.
        """
        query = dict(parse_qsl(urlsplit(url).query))
        now = datetime.now(UTC)
        try:
            if "Expires" in query:
                # Signature version 2, which the client uses for its URLs.
                late = now.timestamp() > int(query["Expires"])
                text = f"{method}\n\n\n{query['Expires']}\n{urlsplit(url).path}"
                expected = HmacV1Auth(Credentials(*self)).sign_string(text)
                access, given = query["AWSAccessKeyId"], query["Signature"]
            else:
                signer: type[Any] = S3SigV4QueryAuth
                seconds = timedelta(seconds=min(int(query.get("X-Amz-Expires", 0)), URL_SECONDS))
                if "X-Amz-Signature" not in query:
                    signer, seconds = S3SigV4Auth, CLOCKS
                    parts = headers["authorization"].partition(" ")[2].split(",")
                    fields = dict(part.strip().split("=", 1) for part in parts)
                    query = {f"X-Amz-{name}": value for name, value in fields.items()}
                    query["X-Amz-Date"] = headers["x-amz-date"]
                access, _, region, *_ = query["X-Amz-Credential"].split("/")
                signs = signer(Credentials(*self), "s3", region)
                given = query["X-Amz-Signature"]
                names = query["X-Amz-SignedHeaders"].split(";")
                request = AWSRequest(
                    method,
                    url.removesuffix(f"&X-Amz-Signature={given}"),
                    {name: headers[name] for name in names},
                )
                request.context["timestamp"] = query["X-Amz-Date"]
                begun = datetime.strptime(f"{query['X-Amz-Date']}+0000", "%Y%m%dT%H%M%SZ%z")
                late = not -CLOCKS < now - begun < seconds
                text = signs.string_to_sign(request, signs.canonical_request(request))
                expected = signs.signature(text, request)
        except (KeyError, ValueError, OverflowError):
            return False
        same = hmac.compare_digest(given.encode(), expected.encode())
        return access == self.access and same and not late
