"""The front door: SSH transport, keys, receive-pack, upload-pack, and commands handed on to the engine room.

In the order in which a connection meets them: `front_door` accepts it, `transport` and `packets` encrypt it,
`authentication` learns whose it is, `connection` opens its sessions, `session` reads what each one asks for
(`exec_request`). `limits` says how much of each a client may take; `places` counts connections, `patience` time, and
`farewell` says why one has to go. A command goes on in `command`; Git goes on in `upload_pack` or `receive_pack`.

A push meets `advertisement`, `command_list`, `quarantine`, `ingestion`, `connectivity`, `ref_transaction` and `report`,
in this order, with `side_band` beside them all.

The room holds no state: a front door may be killed at any instant, and another takes the next connection.
"""
