"""Visitors who never stop asking while a story goes on."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from types import TracebackType
from typing import Self

BREATH = 0.02
"""Seconds between two questions of a client that leaves the processors to the containers: some 40 questions a second
each."""


class Load:
    """`clients` threads that ask for `/` again and again, half of them on one kept connection, half on new ones.

    Each waits for `pause` seconds between an answer and its next question. Without a pause they take all the processors
    there are, which is for stories of the proxy alone: containers would only start more slowly.
    """

    def __init__(self, port: int, clients: int = 8, host: str | None = None, pause: float = 0.0) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._headers = {"Host": host} if host else {}
        self._pause = pause
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(number % 2 == 0,), daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._over.is_set():
            try:
                connection.request("GET", "/", headers=self._headers | ({} if keep else {"Connection": "close"}))
                response = connection.getresponse()
                text = response.read().decode()
                with self._lock:
                    self.answers[text] += 1
                    if response.status != http.client.OK:
                        self.failures.append(f"{response.status} {text}")
                if not keep or response.will_close:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failures.append(repr(error))
                connection.close()
            self._over.wait(self._pause)
        connection.close()
