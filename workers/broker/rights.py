"""What the user of the broker's URL must be allowed to do: asked before a run exists, without doing it."""

from typing import Any

from redis import Redis

from workers.broker.names import OWN

__all__ = ["check_rights"]

#: One command for each kind of right that the broker needs; `{db}` is the number of the database.
_COMMANDS = (
    ("LPUSH", f"{OWN}.control", "-"),
    ("BRPOP", f"{OWN}.control", "1"),
    ("HSET", f"{OWN}.unacked", "-", "-"),
    ("ZADD", f"{OWN}.unacked_index", "1", "-"),
    ("SADD", f"_kombu.binding.{OWN}.control", "-"),
    ("LLEN", f"-.{OWN}.pidbox"),
    ("SETEX", "celery-task-meta--", "1", "-"),
    ("PUBLISH", f"/{{db}}.{OWN}.pidbox", "-"),
    ("PUBLISH", f"/{{db}}.{OWN}.events/task.sent", "-"),
    ("PSUBSCRIBE", f"/{{db}}.{OWN}.pidbox"),
    ("EVAL", "return 1", "0"),
)


def check_rights(client: Redis) -> None:
    """Checks that this user may send and take messages there, and that the server takes writes.

    The server examines each command when it is queued in a transaction, and the transaction is dropped.

    Raises:
        RedisError: no answer, a right is missing, or the server takes no writes.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        connection.send_command("MULTI")
        connection.read_response()
        for command in _COMMANDS:
            connection.send_command(*(part.format(db=connection.db) for part in command))
            connection.read_response()
    finally:
        connection.disconnect()  # this drops the transaction
        pool.release(connection)
