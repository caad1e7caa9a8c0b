/* Files: safe writing (also where it must fail), reading, maps, folders, listings, SHA-256, CRC-32. */
#include "base/error.h"
#include "io/file.h"
#include "io/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a folder for each test, gone afterwards ---- */

static char folder[64];

static const char *in(const char *name) {
    static char path[4][LD_PATH_MAX];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/ld_file_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *e;
    while (dir && (e = readdir(dir))) {
        char below[LD_PATH_MAX];
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && unlink(below))
            remove_tree(below);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

static int remove_folder(void **state) {
    (void)state;
    remove_tree(folder);
    return 0;
}

/* Entries of a folder, hidden ones too. */
static int entries(const char *path) {
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int n = -2;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void put(const char *name, const char *text) {
    FILE *f = fopen(in(name), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void assert_holds(const char *path, const char *text) {
    void *bytes;
    size_t n;
    if (ld_file_read(path, &bytes, &n, 0))
        fail_msg("%s", ld_error());
    assert_int_equal(n, strlen(text));
    assert_memory_equal(bytes, text, n);
    free(bytes);
}

static void assert_failed(int got, int code, const char *part) {
    assert_int_equal(got, code);
    assert_int_equal(ld_error_code(), code);
    if (!strstr(ld_error(), part))
        fail_msg("the message '%s' does not say '%s'", ld_error(), part);
}

/* ---- writing ---- */

static void test_write(void **state) {
    (void)state;
    const char *path = in("a.txt");
    assert_int_equal(ld_file_write(path, "old", 3), 0);
    assert_holds(path, "old");
    /* A reader that has the old file open keeps the whole old content: the new one is another file. */
    int reader = open(path, O_RDONLY);
    assert_true(reader >= 0);
    assert_int_equal(ld_file_write(path, "newer", 5), 0);
    assert_holds(path, "newer");
    char text[8];
    assert_int_equal(read(reader, text, sizeof text), 3);
    assert_memory_equal(text, "old", 3);
    close(reader);
    assert_int_equal(ld_file_write(path, NULL, 0), 0);
    assert_holds(path, "");
    assert_int_equal(entries(folder), 1);
}

static void test_write_mode(void **state) {
    (void)state;
    mode_t mask = umask(027);
    assert_int_equal(ld_file_write(in("a.txt"), "x", 1), 0);
    umask(mask);
    struct stat st;
    assert_int_equal(stat(in("a.txt"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

static void test_write_here(void **state) {
    (void)state;
    char before[LD_PATH_MAX];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    int code = ld_file_write("plain", "x", 1);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(code, 0);
    assert_holds(in("plain"), "x");
    assert_int_equal(entries(folder), 1);
}

static void test_write_fails(void **state) {
    (void)state;
    assert_failed(ld_file_write(in("none/a.txt"), "x", 1), LD_EIO, "none/a.txt': No such file");
    put("file", "old");
    assert_failed(ld_file_write(in("file/a.txt"), "x", 1), LD_EIO, "Not a directory");
    assert_int_equal(mkdir(in("dir"), 0777), 0);
    assert_failed(ld_file_write(in("dir"), "x", 1), LD_EIO, "dir");
    assert_failed(ld_file_write(in("dir/"), "x", 1), LD_EIO, "is a folder");
    assert_failed(ld_file_write("", "x", 1), LD_EIO, "is a folder");
    char longer[LD_PATH_MAX + 64];
    memset(longer, 'a', sizeof longer);
    memcpy(longer, "/tmp/", 5);
    longer[sizeof longer - 1] = 0;
    for (size_t i = 64; i < sizeof longer - 1; i += 64)
        longer[i] = '/';
    assert_failed(ld_file_write(longer, "x", 1), LD_EIO, "too long");
    assert_holds(in("file"), "old");
    assert_int_equal(entries(in("dir")), 0);
    assert_int_equal(entries(folder), 2);
}

/* A disk that fills up during the write, played by the limit on file sizes. */
static void test_write_full(void **state) {
    (void)state;
    put("a.txt", "old");
    char *big = calloc(1, 1 << 20);
    assert_non_null(big);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {1 << 16, before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = ld_file_write(in("a.txt"), big, 1 << 20);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    free(big);
    assert_failed(code, LD_EIO, "a.txt': File too large");
    assert_holds(in("a.txt"), "old");
    assert_int_equal(entries(folder), 1);
}

static void test_temporary(void **state) {
    (void)state;
    char tmp[LD_PATH_MAX], other[LD_PATH_MAX];
    put("a.h5", "old");
    assert_int_equal(ld_file_temporary(in("a.h5"), tmp), 0);
    assert_int_equal(ld_file_temporary(in("a.h5"), other), 0);
    assert_string_not_equal(tmp, other);
    ld_file_discard(other);
    FILE *f = fopen(tmp, "w");
    assert_non_null(f);
    fputs("new", f);
    fclose(f);
    assert_holds(in("a.h5"), "old");
    ld_file_list list; /* what is not finished is not listed */
    assert_int_equal(ld_list_files(&list, folder), 0);
    assert_int_equal(list.count, 1);
    ld_file_list_free(&list);
    assert_int_equal(ld_file_commit(tmp, in("a.h5")), 0);
    assert_holds(in("a.h5"), "new");
    assert_int_equal(entries(folder), 1);

    assert_int_equal(mkdir(in("dir"), 0777), 0);
    assert_int_equal(ld_file_temporary(in("dir"), tmp), 0);
    assert_int_equal(entries(folder), 3);
    assert_failed(ld_file_commit(tmp, in("dir")), LD_EIO, "dir': Is a directory");
    assert_int_equal(entries(folder), 2);
    assert_failed(ld_file_commit(tmp, in("a.h5")), LD_EIO, "No such file");
    assert_holds(in("a.h5"), "new");
    assert_failed(ld_file_temporary(in("none/a.h5"), tmp), LD_EIO, "No such file");
    char name[256]; /* as long as a name may be: the temporary one must not be too long */
    memset(name, 'n', 255);
    name[255] = 0;
    assert_int_equal(ld_file_write(in(name), "x", 1), 0);
    assert_holds(in(name), "x");
}

/* ---- reading ---- */

static void test_read(void **state) {
    (void)state;
    void *bytes = folder;
    size_t n = 1;
    put("a", "0123456789");
    assert_int_equal(ld_file_read(in("a"), &bytes, &n, 10), 0);
    assert_int_equal(n, 10);
    free(bytes);
    assert_failed(ld_file_read(in("a"), &bytes, &n, 9), LD_EVALUE, "10 bytes; at most 9");
    assert_null(bytes);
    assert_int_equal(n, 0);
    put("empty", "");
    assert_int_equal(ld_file_read(in("empty"), &bytes, &n, 0), 0);
    assert_non_null(bytes);
    assert_int_equal(n, 0);
    free(bytes);
    assert_failed(ld_file_read(in("none"), &bytes, &n, 0), LD_EIO, "none': No such file");
    assert_failed(ld_file_read(folder, &bytes, &n, 0), LD_EIO, "Is a directory");
    /* No size beforehand, and no end. */
    assert_failed(ld_file_read("/dev/zero", &bytes, &n, 100000), LD_EVALUE, "more than 100000 bytes");
    assert_int_equal(ld_file_read("/dev/null", &bytes, &n, 0), 0);
    assert_int_equal(n, 0);
    free(bytes);
}

static void test_map(void **state) {
    (void)state;
    ld_map m;
    put("a", "hello");
    assert_int_equal(ld_map_open(&m, in("a")), 0);
    assert_int_equal(m.n, 5);
    assert_memory_equal(m.data, "hello", 5);
    ld_map_close(&m);
    assert_null(m.data);
    assert_int_equal(m.n, 0);
    ld_map_close(&m);
    put("empty", "");
    assert_int_equal(ld_map_open(&m, in("empty")), 0);
    assert_null(m.data);
    assert_int_equal(m.n, 0);
    ld_map_close(&m);
    assert_failed(ld_map_open(&m, in("none")), LD_EIO, "none': No such file");
    assert_failed(ld_map_open(&m, folder), LD_EIO, "not a regular file");
    assert_null(m.data);
}

/* ---- folders ---- */

static void test_make_dirs(void **state) {
    (void)state;
    struct stat st;
    assert_int_equal(ld_make_dirs(in("a/b//c/")), 0);
    assert_int_equal(stat(in("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(ld_make_dirs(in("a/b/c")), 0);
    assert_int_equal(ld_make_dirs("/"), 0);
    assert_int_equal(ld_make_dirs("."), 0);
    put("file", "x");
    assert_failed(ld_make_dirs(in("file")), LD_EIO, "file': File exists");
    assert_failed(ld_make_dirs(in("file/d")), LD_EIO, "file");
    assert_failed(ld_make_dirs(""), LD_EIO, "make folder");
    assert_int_equal(symlink("a/b", in("link")), 0);
    assert_int_equal(ld_make_dirs(in("link/d")), 0);
    assert_int_equal(stat(in("a/b/d"), &st), 0);
}

static void test_disk_free(void **state) {
    (void)state;
    assert_true(ld_disk_free(folder) > 0);
    assert_true(ld_disk_free(in("not/yet/there")) > 0);
    assert_true(ld_disk_free("not-yet-there/either") > 0);
    put("file", "x");
    assert_true(ld_disk_free(in("file/below")) > 0);
    assert_true(ld_disk_free(".") > 0);
}

/* ---- listing ---- */

static void assert_list(const char *root, const char *const *want) {
    ld_file_list list;
    if (ld_list_files(&list, root))
        fail_msg("%s", ld_error());
    for (int64_t i = 0; i < list.count && want[i]; i++)
        assert_string_equal(list.text + list.offset[i], want[i]);
    int64_t n = 0;
    while (want[n])
        n++;
    assert_int_equal(list.count, n);
    ld_file_list_free(&list);
    assert_null(list.text);
}

static void test_list(void **state) {
    (void)state;
    assert_int_equal(ld_make_dirs(in("root/sub/deep")), 0);
    assert_int_equal(ld_make_dirs(in("root/.hidden")), 0);
    assert_int_equal(ld_make_dirs(in("root/empty")), 0);
    static const char *const files[] = {"root/b.txt", "root/B.txt",        "root/sub/z", "root/sub-1",
                                        "root/.dot",  "root/sub/deep/y.x", "root/a",     "root/.hidden/h"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        put(files[i], "");
    assert_int_equal(mkfifo(in("root/pipe"), 0666), 0);
    static const char *const want[] = {"B.txt", "a", "b.txt", "sub-1", "sub/deep/y.x", "sub/z", NULL};
    assert_list(in("root"), want);
    assert_list(in("root/"), want);
    assert_list(in("root/empty"), (const char *const[]){NULL});
    ld_file_list list;
    assert_failed(ld_list_files(&list, in("none")), LD_EIO, "none': No such file");
    assert_failed(ld_list_files(&list, in("root/a")), LD_EIO, "Not a directory");
    assert_null(list.text);
}

/* Links to files and folders are followed; loops end; a folder that is there by itself keeps its own name; of several
 * links to one folder the first by name counts. */
static void test_list_links(void **state) {
    (void)state;
    assert_int_equal(ld_make_dirs(in("root/sub")), 0);
    assert_int_equal(ld_make_dirs(in("away/far")), 0);
    put("root/a", "");
    put("root/sub/s", "");
    put("away/e", "");
    put("away/far/f", "");
    static const char *const links[][2] = {
        {".", "root/loop"},    {"..", "root/sub/up"},    {"nowhere", "root/dangling"}, {"a", "root/filelink"},
        {"sub", "root/alias"}, {"../away", "root/y"},    {"../away", "root/z"},        {"../root", "away/back"},
        {"self", "root/self"}, {"../far", "away/far/me"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        assert_int_equal(symlink(links[i][0], in(links[i][1])), 0);
    /* sub/up leads to root itself, and away is reached by the first of y and z. */
    static const char *const want[] = {"a", "filelink", "sub/s", "y/e", "y/far/f", NULL};
    assert_list(in("root"), want);
    assert_int_equal(symlink("root", in("start")), 0);
    assert_list(in("start"), want);
}

static void test_list_many(void **state) {
    (void)state;
    enum { FOLDERS = 150, FILES = 20 };
    char name[64];
    for (int i = 0; i < FOLDERS; i++) {
        snprintf(name, sizeof name, "root/folder-%03d", i);
        assert_int_equal(ld_make_dirs(in(name)), 0);
        for (int j = 0; j < FILES; j++) {
            snprintf(name, sizeof name, "root/folder-%03d/a-longer-name-of-a-file-%02d", i, j);
            put(name, "");
        }
        snprintf(name, sizeof name, "root/link-%03d", i); /* each leads to what was read before */
        char to[32];
        snprintf(to, sizeof to, "folder-%03d", (i * 7) % FOLDERS);
        assert_int_equal(symlink(to, in(name)), 0);
    }
    ld_file_list list;
    assert_int_equal(ld_list_files(&list, in("root")), 0);
    assert_int_equal(list.count, FOLDERS * FILES);
    for (int i = 0; i < FOLDERS * FILES; i++) {
        snprintf(name, sizeof name, "folder-%03d/a-longer-name-of-a-file-%02d", i / FILES, i % FILES);
        assert_string_equal(list.text + list.offset[i], name);
    }
    ld_file_list_free(&list);
}

/* ---- second names, and failures that tests ask for ---- */

static void assert_content(const char *path, const char *want) {
    void *bytes;
    size_t n;
    assert_int_equal(ld_file_read(path, &bytes, &n, 0), 0);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(bytes, want, n);
    free(bytes);
}

static void test_link(void **state) {
    (void)state;
    struct stat a, b;
    assert_int_equal(ld_file_write(in("a"), "one", 3), 0);
    assert_int_equal(ld_file_write(in("b"), "two", 3), 0);
    assert_int_equal(ld_file_link(in("a"), in("last")), 0);
    assert_int_equal(ld_file_link(in("a"), in("last")), 0);
    assert_content(in("last"), "one");
    assert_int_equal(ld_file_link(in("b"), in("last")), 0);
    assert_content(in("last"), "two");
    assert_int_equal(stat(in("b"), &b), 0);
    assert_int_equal(stat(in("last"), &a), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(entries(folder), 3);
    assert_int_equal(ld_file_link(in("absent"), in("last")), LD_EIO);
    assert_content(in("last"), "two");
}

/* Every call that can fail does so once. The second name is old or new, nothing is left behind, and where the system refuses
 * a second name (the second call) there is a copy. */
static void test_link_fails(void **state) {
    (void)state;
    bool failed = true, copied = false;
    assert_int_equal(ld_file_write(in("a"), "one", 3), 0);
    assert_int_equal(ld_file_write(in("b"), "two", 3), 0);
    for (int k = 1; failed; k++) {
        struct stat a, b;
        assert_true(k < 20);
        assert_int_equal(ld_file_link(in("a"), in("last")), 0);
        ld_file_fail_at(k);
        failed = ld_file_link(in("b"), in("last")) != 0;
        ld_file_fail_at(0);
        assert_int_equal(entries(folder), 3);
        assert_int_equal(stat(in("b"), &b), 0);
        assert_int_equal(stat(in("last"), &a), 0);
        if (!failed)
            assert_content(in("last"), "two");
        if (!failed && a.st_ino != b.st_ino) {
            copied = true;
            failed = true;
        }
    }
    assert_true(copied);
}

static void test_fail_at(void **state) {
    (void)state;
    int k = 1;
    assert_int_equal(ld_file_write(in("a"), "one", 3), 0);
    for (bool failed = true; failed; k++) {
        ld_file_fail_at(k);
        failed = ld_file_write(in("a"), "two", 3) != 0;
        ld_file_fail_at(0);
        assert_int_equal(entries(folder), 1);
    }
    assert_content(in("a"), "two");
    assert_int_equal(k, 7); /* make, write, sync, rename, sync of the folder, and the call that is reached no more */
}

/* ---- SHA-256 ---- */

static void assert_sha256(const void *bytes, size_t n, const char *want) {
    char hex[65];
    ld_sha256(bytes, n, hex);
    assert_string_equal(hex, want);
}

/* The examples of FIPS 180-2 and lengths around the ends of blocks. */
static void known_sums(void) {
    assert_sha256(NULL, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_sha256("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *a = malloc(1000000);
    assert_non_null(a);
    memset(a, 'a', 1000000);
    assert_sha256(a, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_sha256(a, 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    assert_sha256(a, 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
    assert_sha256(a, 63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34");
    assert_sha256(a, 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    assert_sha256(a, 65, "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0");
    assert_sha256(a, 120, "2f3d335432c70b580af0e8e1b3674a7c020d683aa5f73aaaedfdc55af904c21c");
    free(a);
}

static void test_sha256(void **state) {
    (void)state;
    known_sums();
    ld_sha256_plain(true);
    known_sums();
    ld_sha256_plain(false);
}

/* In two pieces, cut anywhere, and byte by byte. */
static void test_sha256_pieces(void **state) {
    (void)state;
    uint8_t bytes[200];
    for (int i = 0; i < 200; i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t n = 0; n <= 200; n++) {
        char want[65], got[65];
        ld_sha256(bytes, n, want);
        ld_sha256_state s;
        for (size_t cut = 0; cut <= n; cut++) {
            ld_sha256_start(&s);
            ld_sha256_add(&s, bytes, cut);
            ld_sha256_add(&s, bytes + cut, n - cut);
            ld_sha256_end(&s, got);
            assert_string_equal(got, want);
        }
        ld_sha256_start(&s);
        for (size_t i = 0; i < n; i++)
            ld_sha256_add(&s, bytes + i, 1);
        ld_sha256_end(&s, got);
        assert_string_equal(got, want);
    }
}

/* The check value of the catalogue of CRCs, and sums of zlib.crc32 of Python. */
static void test_crc32(void **state) {
    (void)state;
    assert_int_equal(ld_crc32("123456789", 9), 0xcbf43926);
    assert_int_equal(ld_crc32(NULL, 0), 0);
    assert_int_equal(ld_crc32("a", 1), 0xe8b7be43);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_write),        IN_FOLDER(test_write_mode),    IN_FOLDER(test_write_here),
        IN_FOLDER(test_write_fails),  IN_FOLDER(test_write_full),    IN_FOLDER(test_temporary),
        IN_FOLDER(test_read),         IN_FOLDER(test_map),           IN_FOLDER(test_make_dirs),
        IN_FOLDER(test_disk_free),    IN_FOLDER(test_list),          IN_FOLDER(test_list_links),
        IN_FOLDER(test_list_many),    cmocka_unit_test(test_sha256), cmocka_unit_test(test_sha256_pieces),
        cmocka_unit_test(test_crc32), IN_FOLDER(test_link),          IN_FOLDER(test_link_fails),
        IN_FOLDER(test_fail_at),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
