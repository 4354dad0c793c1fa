"""What a result says of the process that made it."""

import subprocess
import sys


def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    held = bytearray(300 << 20)
    held[::4096] = b"x" * len(held[::4096])
    code = (
        "from parity.process.environment import peak_memory_bytes; print(peak_memory_bytes());"
        "x = bytearray(400 << 20); x[::4096] = b'x' * len(x[::4096]); print(peak_memory_bytes())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout
    before, after = map(int, said.split())
    assert 5 << 20 < before < 250 << 20
    assert 400 << 20 <= after < 700 << 20
    del held
