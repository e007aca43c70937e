"""What a push or a command sets off: pre-receive policy, the post-receive pipeline, operations."""
