"""What keeping an order book costs, as ratios: python tests/bench_book.py

Applying an update of 20 levels to a book of 400 a side, against decoding the update's JSON; and reading the best n
of books of different sizes.
"""

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from okex_ws import OrderBook


def updates(levels, changed, number):
    """A v5 snapshot and its updates, as JSON: the touch moves every other time, levels near it come, change and go."""
    rng = random.Random(1)
    middle = 830_000
    sides = {
        "bids": {middle - n: "1.5" for n in range(1, levels + 1)},
        "asks": {middle + n: "1.5" for n in range(1, levels + 1)},
    }

    def row(told):
        return {side: [[f"{p / 10:.1f}", size, "0", "2"] for p, size in told[side].items()] for side in told}

    rows = [row(sides)]
    for _ in range(number):
        told = {"bids": {}, "asks": {}}
        middle += rng.choice((0, 0, -2, -1, 1, 2))
        for side, sign in (("bids", -1), ("asks", 1)):
            for price in [p for p in sides[side] if (p - middle) * sign <= 0]:
                told[side][price] = "0"  # the touch has passed it
        while len(told["bids"]) + len(told["asks"]) < changed:
            side, sign = rng.choice((("bids", -1), ("asks", 1)))
            price = middle + sign * (1 + min(int(rng.expovariate(0.05)), levels))
            gone = price in sides[side] and rng.random() < 0.25
            told[side][price] = "0" if gone else f"{rng.uniform(0.01, 9):.4f}"
        for side in sides:
            sides[side] = {p: size for p, size in (sides[side] | told[side]).items() if size != "0"}
        rows.append(row(told))
    for n, row_ in enumerate(rows):
        row_ |= {"ts": "1791369351001", "seqId": n + 1, "prevSeqId": n or -1}
    return [json.dumps(row_) for row_ in rows]


def best_of(times, run):
    """The shortest of several runs, in seconds of CPU time."""
    results = []
    for _ in range(times):
        begin = time.process_time()
        run()
        results.append(time.process_time() - begin)
    return min(results)


def filled(snapshot):
    book = OrderBook()
    book.apply(json.loads(snapshot), "snapshot")
    return book


def main():
    texts = updates(levels=400, changed=20, number=2000)

    def decode():
        for text in texts[1:]:
            json.loads(text)

    def decode_and_apply():
        book = filled(texts[0])
        for text in texts[1:]:
            book.apply(json.loads(text), "update")

    base = best_of(9, decode)
    print(f"applying an update of 20 levels / decoding it: {best_of(9, decode_and_apply) / base - 1:.2f}")

    small, large = filled(updates(50, 0, 0)[0]), filled(updates(5000, 0, 0)[0])

    def top(book, n):
        return best_of(7, lambda: [book.top(n) for _ in range(2000)])

    print(f"top(10) of 5000 levels / of 50 levels:         {top(large, 10) / top(small, 10):.2f}")
    print(f"top(40) / top(10) of 5000 levels:              {top(large, 40) / top(large, 10):.2f}")


if __name__ == "__main__":
    main()
