"""The schema. `store/migrations` builds it step by step; a test holds the two against each other."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """A point in time, always UTC. SQLite has no time zones, so what comes back is told to be UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store in UTC."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        return value and value.replace(tzinfo=UTC)


def now() -> datetime:
    """Return the present, to be stored."""
    return datetime.now(UTC)


installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),
    # Tells this server's containers from those of another server on the same engine.
    Column("instance", String(32), nullable=False),
    # Sealed: what build caches are kept apart by. It opens with the right secret key only, and tells so at a start.
    Column("cache_key", LargeBinary),
)

environments = Table(
    "environments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("handle", String(64), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False, default=now),
)

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("admin", Boolean, nullable=False, default=False),
    # Where apps go that are created without naming an environment.
    Column("environment_id", ForeignKey("environments.id"), nullable=False),
    Column("created_at", Moment, nullable=False, default=now),
    # Whoever was removed stays on record, so that operations keep the name of who asked for them.
    Column("removed_at", Moment),
)
Index("uq_users_name", users.c.name, unique=True, sqlite_where=users.c.removed_at.is_(None))

keys = Table(
    "keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("key", Text, nullable=False, unique=True),
    Column("fingerprint", String(64), nullable=False),
    Column("comment", String(255), nullable=False, default=""),
    Column("created_at", Moment, nullable=False, default=now),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
)

passwords = Table(
    "passwords",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    # Another name to log in with, as public clients ask for one.
    Column("email", String(254), unique=True),
    # In the PHC string format, which names algorithm and cost.
    Column("hash", Text, nullable=False),
    Column("changed_at", Moment, nullable=False, default=now),
)

tokens = Table(
    "tokens",
    metadata,
    # The token's "jti" (RFC 7519, section 4.1.7). The token itself is kept nowhere.
    Column("id", String(16), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("scope", String(16), nullable=False),
    Column("created_at", Moment, nullable=False, default=now),
    Column("expires_at", Moment, nullable=False),
)

memberships = Table(
    "memberships",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("environment_id", ForeignKey("environments.id"), primary_key=True),
    # The name of a `store.roles.Role`, on every app of the environment.
    Column("role", String(8), nullable=False),
)

apps = Table(
    "apps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("handle", String(64), nullable=False),
    Column("environment_id", ForeignKey("environments.id"), nullable=False, index=True),
    # The proxy's port for this app alone, kept over all its releases; unused where apps have host names.
    Column("port", Integer, unique=True),
    # The operation whose containers serve the app. A restart changes it without making a release.
    Column("serving_operation_id", Integer),
    Column("created_at", Moment, nullable=False, default=now),
    # A deprovisioned app's row stays for the sake of its operations, and its handle is free again.
    Column("deleted_at", Moment),
    sqlite_autoincrement=True,  # a repository is called by its app's id, so none may be used again
)
Index(
    "ix_apps_live_handle",
    apps.c.handle,
    unique=True,
    sqlite_where=apps.c.deleted_at.is_(None),
    postgresql_where=apps.c.deleted_at.is_(None),
)

app_roles = Table(
    "app_roles",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("app_id", ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("role", String(8), nullable=False),
)

config_versions = Table(
    "config_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("app_id", ForeignKey("apps.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False, default=now),
    UniqueConstraint("app_id", "number"),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("app_id", ForeignKey("apps.id", ondelete="CASCADE"), nullable=False, index=True),
    # Null is the administrator at the machine itself.
    Column("user_id", ForeignKey("users.id", ondelete="SET NULL")),
    Column("type", String(16), nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("error", Text),
    # What is asked for, sealed since it may hold config values.
    Column("request", LargeBinary, nullable=False),
    # The deploying branches as they were when the operation began to move them, as JSON; to be put back after a crash.
    Column("branches_before", Text),
    Column("created_at", Moment, nullable=False, default=now),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    sqlite_autoincrement=True,  # a number is never used again, whatever is deleted
)

releases = Table(
    "releases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("app_id", ForeignKey("apps.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("operation_id", ForeignKey("operations.id"), nullable=False),
    Column("config_version_id", ForeignKey("config_versions.id"), nullable=False),
    # The engine's image id, sha256:…
    Column("image", String(80), nullable=False),
    # For an image deployed as it is: the name that was asked for, and the digest that it had.
    Column("image_name", Text),
    Column("image_digest", Text),
    # For a build: the commit, and the deploying branch that points at it.
    Column("commit", String(40)),
    Column("git_ref", Text),
    Column("procfile", Text),
    Column("aptible_yml", Text),
    # Manifest digests of the images that the build started from, as JSON.
    Column("bases", Text, nullable=False, default="{}"),
    Column("created_at", Moment, nullable=False, default=now),
    UniqueConstraint("app_id", "number"),
)

services = Table(
    "services",
    metadata,
    # Public clients name a service by its number.
    Column("id", Integer, primary_key=True),
    Column("app_id", ForeignKey("apps.id", ondelete="CASCADE"), nullable=False),
    # As the Procfile names it; kept while no release has a service of that name.
    Column("name", String(64), nullable=False),
    Column("container_count", Integer, nullable=False),
    Column("container_memory_mb", Integer, nullable=False),
    Column("cpu_limit", Float, nullable=False),
    Column("force_zero_downtime", Boolean, nullable=False),
    Column("simple_health_check", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False, default=now),
    UniqueConstraint("app_id", "name"),
    sqlite_autoincrement=True,  # a link to a service must never come to mean another one
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("app_id", ForeignKey("apps.id", ondelete="CASCADE"), nullable=False, index=True),
    # A host name leads to one app only, and so does a port.
    Column("host", String(253), unique=True),
    Column("tcp_port", Integer, unique=True),
    # Null is the service, and the port, of the app's own address.
    Column("service", String(64)),
    Column("container_port", Integer),
    # Private key, certificate and chain as PEM, sealed.
    Column("certificate", LargeBinary),
    # Whether the certificate comes from a certificate authority, and is renewed by itself.
    Column("managed", Boolean, nullable=False, default=False),
    Column("redirect", Boolean, nullable=False, default=False),
    # Of the last renewal, if it failed.
    Column("renewal_tried_at", Moment),
    Column("renewal_error", Text),
    Column("created_at", Moment, nullable=False, default=now),
)

acme_accounts = Table(
    "acme_accounts",
    metadata,
    # The certificate authority's directory (RFC 8555 section 7.1.1).
    Column("directory", String(255), primary_key=True),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False, default=now),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False, default=now),
    # Names and numbers as they were, without reference to records that may go. Triggers keep rows as they are.
    Column("user", String(64), nullable=False, index=True),
    Column("door", String(8), nullable=False),
    Column("address", String(64)),
    Column("key", String(64)),
    Column("action", String(64), nullable=False),
    Column("detail", Text),
    Column("app", String(64)),
    Column("app_id", Integer, index=True),
    Column("operation_id", Integer),
    Column("result", String(8), nullable=False),
    sqlite_autoincrement=True,
)
