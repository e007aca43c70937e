"""Amazon ECR: a fresh token for every operation, fetched with the app's AWS keys.

`GetAuthorizationToken` (Amazon ECR API reference) gives a password for the user `AWS` that is valid for 12 hours, in
every registry that the keys may use. Stored anywhere, such a token would be an expired one most of the time.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.login import Credentials, CredentialsError
from store.secret import Secret

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config

PREFIX = "ECR_"
ACCESS_KEY_ID = "AWS_ACCESS_KEY_ID"
SECRET_ACCESS_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 -- the variable's name
SESSION_TOKEN = "AWS_SESSION_TOKEN"  # noqa: S105 -- the variable's name
ROLE_ARN = "AWS_ROLE_ARN"
EXTERNAL_ID = "AWS_EXTERNAL_ID"

OWN_VARIABLES: frozenset[str] = frozenset(
    PREFIX + name for name in (ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, ROLE_ARN, EXTERNAL_ID)
)
"""Keys that are for pulling images only."""
CONNECT_SECONDS = 5
READ_SECONDS = 15
ATTEMPTS = 2
ROLE_SECONDS = 900
"""How long an assumed role lasts: the least that AWS STS allows. The token that is fetched with it lasts longer."""

_HOST = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\."
    r"(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)"
)


class EcrError(CredentialsError):
    """AWS gave no token."""


@dataclass(frozen=True)
class Keys:
    """AWS keys, and the role to assume with them."""

    access_key_id: Secret
    secret_access_key: Secret
    session_token: Secret | None
    role: Secret | None
    external_id: Secret | None
    for_ecr: bool
    """Whether they are there for ECR alone, or the app's own."""

    @property
    def variables(self) -> str:
        """For people: where they come from."""
        prefix = PREFIX if self.for_ecr else ""
        return f"{prefix}{ACCESS_KEY_ID} and {prefix}{SECRET_ACCESS_KEY}"


def region(host: str) -> str | None:
    """Return the AWS region of an ECR registry's host, None for any other host."""
    found = _HOST.fullmatch(host)
    return found[1] if found else None


def keys(config: Mapping[str, Secret]) -> Keys | None:
    """Return the keys that an app's config has, those for ECR alone before the app's own.

    Raises EcrError where an id stands without its secret.
    """
    for prefix in (PREFIX, ""):
        key, secret = config.get(prefix + ACCESS_KEY_ID), config.get(prefix + SECRET_ACCESS_KEY)
        if key and secret:
            session, role, external = (
                config.get(prefix + name) or None for name in (SESSION_TOKEN, ROLE_ARN, EXTERNAL_ID)
            )
            return Keys(key, secret, session, role, external, for_ecr=bool(prefix))
        if prefix and (key or secret):
            raise EcrError(
                f"Of {prefix}{ACCESS_KEY_ID} and {prefix}{SECRET_ACCESS_KEY} only one is set; set both, or unset both"
            )
    return None


def token(with_keys: Keys, in_region: str) -> Credentials:
    """Return fresh credentials for the ECR registries of a region. Raises EcrError."""
    # AWS's library takes a while to load and 20 MB of memory, which a server without ECR does without.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = _session(with_keys, in_region)
        if with_keys.role:
            session = _assumed(session, with_keys, in_region)
        answer = session.client("ecr", config=_client_config()).get_authorization_token()
        encoded = answer["authorizationData"][0]["authorizationToken"]
        username, _, password = base64.b64decode(encoded).decode().partition(":")
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "an error"))
        raise EcrError(_refusal(code, with_keys, in_region)) from None
    except (BotoCoreError, ValueError, LookupError):
        raise EcrError(
            f"Amazon ECR in {in_region} could not be asked for a token; check the server's way to AWS and try again."
        ) from None
    return Credentials(
        Secret(username), Secret(password), "the user AWS", f"the token fetched with {with_keys.variables}"
    )


def _refusal(code: str, with_keys: Keys, in_region: str) -> str:
    shown = code if re.fullmatch(r"[A-Za-z.]{1,60}", code) else "an error"
    if "Expired" in shown:
        return (
            f"AWS says that the keys in {with_keys.variables} have expired ({shown}). Set fresh ones with config:set, "
            "or long-term ones, with which a token is fetched for every operation."
        )
    return (
        f"AWS gives no token for Amazon ECR in {in_region} to the keys in {with_keys.variables} ({shown}). They need "
        "the permission ecr:GetAuthorizationToken, and those to pull the image."
    )


def _session(with_keys: Keys, in_region: str) -> Session:
    from boto3.session import Session
    from botocore.session import Session as Settings

    # Nothing of the server user's own AWS configuration: no files, and no profile that would have to be in them.
    settings = Settings(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    return Session(
        with_keys.access_key_id.reveal(),
        with_keys.secret_access_key.reveal(),
        with_keys.session_token.reveal() if with_keys.session_token else None,
        region_name=in_region,
        botocore_session=settings,
    )


def _assumed(session: Session, with_keys: Keys, in_region: str) -> Session:
    role = with_keys.role.reveal() if with_keys.role else ""
    sts = session.client("sts", config=_client_config())
    if with_keys.external_id:
        answer = sts.assume_role(
            RoleArn=role,
            RoleSessionName="slipway",
            DurationSeconds=ROLE_SECONDS,
            ExternalId=with_keys.external_id.reveal(),
        )
    else:
        answer = sts.assume_role(RoleArn=role, RoleSessionName="slipway", DurationSeconds=ROLE_SECONDS)
    got = answer["Credentials"]
    return _session(
        Keys(
            Secret(got["AccessKeyId"]),
            Secret(got["SecretAccessKey"]),
            Secret(got["SessionToken"]),
            None,
            None,
            with_keys.for_ecr,
        ),
        in_region,
    )


def _client_config() -> Config:
    from botocore.config import Config

    return Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": ATTEMPTS})
