"""One job at a time."""

from threading import Lock

queue_lock = Lock()
