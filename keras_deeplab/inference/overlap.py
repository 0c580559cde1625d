"""Reading ahead and writing behind: what a processor waits for is done in threads while it computes."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Written = TypeVar("Written")


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    work: Callable[[Item, Read], Made],
    write: Callable[[Item, Made], Written],
    *,
    threads: int = 2,
    ahead: int = 3,
    behind: int = 4,
    size: Callable[[Made], int] = lambda made: 0,
    most: int = 1 << 28,
) -> Generator[tuple[Item, Written | Exception], None, None]:
    """Each item with what `write` returns for it, or the exception that one of the three raised, in their order.

    `read` and `write` run in threads, `work` in the caller's. However many items there are, no more than `ahead` are
    read before their turn and `behind` wait to be written, and these hold no more than `most` bytes, one item apart.
    Whatever else ends the loop, such as Ctrl-C, waits for the writes that have begun and begins no other.

    Args:
        threads: of reading, and as many of writing; with one each is done in the items' order.
        size: how many bytes what `work` made takes.
    """
    source = iter(items)
    with ThreadPoolExecutor(threads, "read") as readers, ThreadPoolExecutor(threads, "write") as writers:
        coming: deque[tuple[Item, Future]] = deque()
        leaving: deque[tuple[Item, Future | Exception, int]] = deque()

        def left() -> tuple[Item, Any]:
            item, future, _ = leaving.popleft()
            return item, _outcome(future)

        try:
            while True:
                with contextlib.suppress(StopIteration):
                    while len(coming) < ahead:
                        item = next(source)
                        coming.append((item, readers.submit(read, item)))
                if not coming:
                    break
                item, future = coming.popleft()
                found = _outcome(future)
                weight = 0
                if not isinstance(found, Exception):
                    try:
                        made = work(item, found)
                    except Exception as error:
                        found = error
                    else:
                        weight = size(made)
                        found = writers.submit(write, item, made)
                        del made
                leaving.append((item, found, weight))
                while leaving and (
                    len(leaving) > behind or sum(held for _, _, held in leaving) > most or _is_done(leaving[0][1])
                ):
                    yield left()
            while leaving:
                yield left()
        except BaseException:
            for pool in (readers, writers):
                pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_done(found: Future | Exception) -> bool:
    return isinstance(found, Exception) or found.done()


def _outcome(found: Any) -> Any:
    """What a future came to, its exception among that."""
    if not isinstance(found, Future):
        return found
    try:
        return found.result()
    except Exception as error:
        return error
