import sys
import pytest
from tests.support.readers import *
@pytest.mark.parametrize("start",[b"TRACE / HTTP/1.1"])
def test_a(start):
    print("ctx", repr(sys.exc_info()))
    (one,)=read_requests([b"\r\n".join([start,b"Host: a",b"",b""])])
    print(one)
    r=RequestReader(LIMITS,Memo()); r.feed(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"); print(r.arrived[0].error.detail)
@pytest.mark.parametrize("start",[b"GET / HTTP/2.0", b"TRACE / HTTP/1.1"])
def test_b(start):
    print("ctx", repr(sys.exc_info()))
    (one,)=read_requests([b"\r\n".join([start,b"Host: a",b"",b""])])
    print(one)
    r=RequestReader(LIMITS,Memo()); r.feed(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"); print(r.arrived[0].error.detail)
def test_c():
    for i in range(3):
        r=RequestReader(LIMITS,Memo()); r.feed(b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"); print(r.arrived[0].error.detail)
        r=RequestReader(LIMITS,Memo()); r.feed(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"); print(r.arrived[0].error.detail)
