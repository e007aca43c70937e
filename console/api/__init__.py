"""The HTTP interface of Aptible's public clients: HAL resources over the same commands that SSH has."""
