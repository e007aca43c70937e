"""The front door: SSH transport, keys, receive-pack, upload-pack, and commands handed on."""
