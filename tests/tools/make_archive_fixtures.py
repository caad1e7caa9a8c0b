#!/usr/bin/env python3
"""Writes tests/fixtures/archives: small archives of every kind, as Python's tarfile and zipfile, GNU tar and zstd make
them, and LMDB data bases. The bytes of a member are its own name (without folders) and a line feed, over and over.

    python3 tests/tools/make_archive_fixtures.py [FOLDER]          takes python3-lmdb, tar, zstd
"""
import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import lmdb

folder = sys.argv[1] if len(sys.argv) > 1 else 'tests/fixtures/archives'
os.makedirs(folder, exist_ok=True)
os.chdir(folder)


def text(name, times):
    return (name.split('/')[-1] + '\n').encode() * times


def add(tar, name, times=1, kind=tarfile.REGTYPE, link=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    data = text(name, times) if kind == tarfile.REGTYPE else b''
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def fill(tar):
    add(tar, './dir', kind=tarfile.DIRTYPE)
    add(tar, './dir/a.txt')
    add(tar, '/abs/b.txt', 200)
    add(tar, 'dir/' + 'long' * 40 + '/name.txt', 3)
    add(tar, 'dir/empty', 0)
    add(tar, 'dir/grüße.txt', 2)
    add(tar, 'hard', kind=tarfile.LNKTYPE, link='dir/a.txt')
    add(tar, 'soft', kind=tarfile.SYMTYPE, link='dir/a.txt')
    add(tar, 'last.txt', 5)


def tar_bytes(make, form=tarfile.GNU_FORMAT, encoding='utf-8'):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w', format=form, encoding=encoding) as tar:
        make(tar)
    return out.getvalue()


def put(name, data):
    with open(name, 'wb') as f:
        f.write(data)


def inner(k):
    def make(tar):
        for j in range(3):
            add(tar, 'n%d_%d.JPEG' % (k, j), 1 + 30 * j)
    return make


def nested(tar):
    for k in range(3):
        data = tar_bytes(inner(k))
        info = tarfile.TarInfo('n%d.tar' % k)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    add(tar, 'notes.txt')


class Forwards(io.RawIOBase):
    """A file that cannot go back: zip's sizes then come behind the bytes."""

    def __init__(self):
        super().__init__()
        self.data = b''

    def writable(self):
        return True

    def write(self, piece):
        self.data += bytes(piece)
        return len(piece)


def zip_into(out, packing, zip64=False):
    with zipfile.ZipFile(out, 'w', packing) as z:
        for name, times in (('dir/', 0), ('dir/m0.txt', 1), ('./dir/m1.txt', 100), ('/dir/m2.txt', 20000),
                            ('grüße.txt', 2), ('empty', 0)):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_STORED if name.endswith('/') else packing
            with z.open(info, 'w', force_zip64=zip64) as f:
                f.write(b'' if name.endswith('/') else text(name, times))


def zip_bytes(packing, zip64=False):
    out = io.BytesIO()
    zip_into(out, packing, zip64)
    return out.getvalue()


def small_zip(packing, name='one.txt', times=10):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', packing) as z:
        info = zipfile.ZipInfo(name)
        info.compress_type = packing
        z.writestr(info, text(name, times))
        info = zipfile.ZipInfo('plain.txt')
        z.writestr(info, text('plain.txt', 3))
    return out.getvalue()


put('gnu.tar', tar_bytes(fill))
put('pax.tar', tar_bytes(fill, tarfile.PAX_FORMAT))
put('latin1.tar', tar_bytes(lambda tar: add(tar, 'gr\xfc\xdfe.txt', 0), tarfile.USTAR_FORMAT, 'latin-1'))
put('nested.tar', tar_bytes(nested))
packed = tar_bytes(fill, tarfile.PAX_FORMAT)
put('packed.tar.gz', gzip.compress(packed, mtime=0))
put('packed.tar.xz', lzma.compress(packed))
put('packed.tar.bz2', bz2.compress(packed))
put('packed.tar.zst', subprocess.run(['zstd', '-q', '-c'], input=packed, stdout=subprocess.PIPE, check=True).stdout)
put('text.gz', gzip.compress(b'no tar at all\n' * 100, mtime=0))
put('twice.tar.gz.gz', gzip.compress(gzip.compress(packed, mtime=0), mtime=0))
put('stored.zip', small_zip(zipfile.ZIP_STORED))
put('deflated.zip', zip_bytes(zipfile.ZIP_DEFLATED))
put('zip64.zip', zip_bytes(zipfile.ZIP_DEFLATED, True))
forwards = Forwards()
zip_into(forwards, zipfile.ZIP_DEFLATED)
put('streamed.zip', forwards.data)
put('lzma.zip', small_zip(zipfile.ZIP_LZMA))
locked = bytearray(small_zip(zipfile.ZIP_STORED))
locked[6] |= 1  # the bit that says "encrypted", in the local and the central header of the first member
locked[locked.index(b'PK\1\2') + 8] |= 1
put('encrypted.zip', bytes(locked))
out = io.BytesIO()
with zipfile.ZipFile(out, 'w') as z:
    z.writestr(zipfile.ZipInfo('all/nested.tar'), tar_bytes(nested))
put('nested.zip', out.getvalue())
with tempfile.TemporaryDirectory() as scratch:
    with open(scratch + '/holes', 'wb') as f:
        f.seek(1 << 20)
        f.write(b'x')
    put(scratch + '/dense', text('dense', 2))
    for form in 'gnu', 'pax':
        subprocess.run(['tar', '--sparse', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=' + form,
                        '--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f' if form == 'pax' else
                        '--sort=name', '-cf', os.getcwd() + '/sparse_%s.tar' % form, '-C', scratch, 'holes', 'dense'],
                       check=True)

# LMDB, a seed for the fuzzer: three entries, one of them on pages of its own.
os.makedirs('../kvs', exist_ok=True)
if os.path.exists('../kvs/small.mdb'):
    os.remove('../kvs/small.mdb')
with lmdb.open('../kvs/small.mdb', subdir=False, map_size=1 << 20, lock=False) as env:
    with env.begin(write=True) as entries:
        entries.put(b'a', b'\x89PNG small')
        entries.put(b'key-2', b'v' * 3000)
        entries.put(b'key-3', b'w' * 40)
