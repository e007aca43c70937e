"""The front door: SSH transport, keys, receive-pack, upload-pack, and commands handed on to the engine room.

In the order in which a connection meets them: `front_door` accepts it, `transport` and `packets` encrypt it,
`authentication` learns whose it is, `connection` opens its sessions, `session` reads what each one asks for
(`exec_request`). A command goes on in `command`; Git goes on in `upload_pack` or `receive_pack`.

A push meets `advertisement`, `command_list`, `quarantine`, `ingestion`, `connectivity`, `ref_transaction` and `report`,
in this order, with `side_band` beside them all.

The room holds no state: a front door may be killed at any instant, and another takes the next connection.
"""
