"""The records: users, keys, apps, config versions, operations and releases.

The lowest room. It knows no other, so the two things that every room needs live here as well: the root of the tree of
errors that a person meets (`store.errors`), and the type of a secret (`store.secret`).
"""
