"""BuildKit inside the Docker engine, driven through the engine's own interface.

`POST /build?version=2` starts a build and streams what happens; beside it a session on `POST /session` lets BuildKit
ask this side for what it needs, by gRPC: the files of the context, and secrets. Nothing else is offered there. It needs
no registry credentials: every image has been allowed by its registry and pulled before the build (builder.bases), and
the Dockerfile that BuildKit sees names just those.
"""
