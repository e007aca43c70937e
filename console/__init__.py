"""How people steer it: the command grammar, the `slipway` program, the HTTP interface."""
