/* test_wire.c: the codec against itself, against limits, and against the golden vectors.
 *
 * Samples, smallest and largest of each type but those of jobs (test_wire_job.c) and files
 * (test_wire_store.c, test_wire_names.c), feed the general properties of wire_samples.h.
 * `test_wire FOLDER` also reads the golden vectors that tests/vectors/make_vectors.py wrote.
 */
#include "wire_samples.h"

/* ---- samples ---- */

static const velum_health some_health = {37, 4, 8, 0, 3, 2, 1500, 210000, 1024, 1000};
static const velum_health full_health = {100,        255,        255,        VELUM_HEALTH_LEAVING,
                                         UINT16_MAX, UINT16_MAX, UINT32_MAX, UINT32_MAX,
                                         UINT32_MAX, UINT32_MAX};
static const velum_member some_member = {
    3, VELUM_MEMBER_SUSPECT, VELUM_ROLE_NODE, UINT64_C(1760000000000), {0x7f000001, 8003}, 9};

static void sample_link(void) {
    static uint8_t key[256] = {1, 2, 3};
    velum_hello hello = {VELUM_ROLE_CLIENT, 0, 0, 0, 0, {0, 0}, {NULL, 0}, NULL, 0};
    velum_bye bye = {0, {NULL, 0}};
    keep(velum_wire_put_hello(frame, sizeof frame, 0, &hello));
    hello.role = VELUM_ROLE_NODE;
    hello.id = 65535;
    hello.slots = 255;
    hello.features = UINT32_MAX;
    hello.incarnation = UINT64_MAX;
    hello.addr.ip = 0xffffffff;
    hello.addr.port = 65535;
    hello.version = long_text(64);
    hello.key = key;
    hello.key_size = 256;
    keep(velum_wire_put_hello(frame, sizeof frame, UINT64_MAX, &hello));
    keep(velum_wire_put_bye(frame, sizeof frame, &bye));
    bye.code = 30;
    bye.text = long_text(VELUM_TEXT_BYTES_MAX);
    keep(velum_wire_put_bye(frame, sizeof frame, &bye));
    keep(velum_wire_put_empty(frame, sizeof frame, VELUM_F_PING, 7));
    keep(velum_wire_put_empty(frame, sizeof frame, VELUM_F_PONG, 7));
}

static void sample_work(void) {
    velum_call call = {0};
    velum_task task = {0};
    velum_result result = {0};
    velum_error error = {1, 0, 0, {NULL, 0}};
    velum_progress progress = {5, UINT64_MAX};
    keep(velum_wire_put_call(frame, sizeof frame, 1, &call));
    call.flags = VELUM_TASK_PLACED;
    call.timeout_ms = UINT32_MAX;
    call.name = long_text(VELUM_NAME_BYTES_MAX);
    call.nargs = (uint8_t)fill_values(call.args);
    keep(velum_wire_put_call(frame, sizeof frame, 2, &call));
    keep(velum_wire_put_task(frame, sizeof frame, 3, &task));
    task.flags = VELUM_TASK_PLACED;
    task.fuel = UINT64_MAX;
    memset(task.hash, 0xab, sizeof task.hash);
    task.name = call.name;
    task.nargs = (uint8_t)fill_values(task.args);
    keep(velum_wire_put_task(frame, sizeof frame, 4, &task));
    result.health = some_health;
    keep(velum_wire_put_result(frame, sizeof frame, 5, &result));
    result.health = full_health;
    result.nvalues = (uint8_t)fill_values(result.values);
    keep(velum_wire_put_result(frame, sizeof frame, 6, &result));
    keep(velum_wire_put_error(frame, sizeof frame, 7, &error));
    error.text = long_text(VELUM_TEXT_BYTES_MAX);
    keep(velum_wire_put_error(frame, sizeof frame, 8, &error));
    keep(velum_wire_put_progress(frame, sizeof frame, 9, &progress));
    keep(velum_wire_put_cancel(frame, sizeof frame, 10, 81));
}

static void sample_rest(void) {
    velum_module_want want = {{1, 2, 3}, VELUM_MODULE_PART_BYTES};
    velum_module_part part = {{9, 8, 7}, 5, 0, 5};
    velum_member members[2];
    velum_health healths[2];
    int head;
    keep(velum_wire_put_module_want(frame, sizeof frame, 11, &want));
    head = velum_wire_put_module_head(frame, sizeof frame, 12, &part);
    memcpy(frame + head, "\0asm\1", 5);
    keep(head + 5);
    members[0] = members[1] = some_member;
    healths[0] = some_health;
    healths[1] = full_health;
    keep(velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC, 13, members, healths, 1));
    keep(velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC_REPLY, 13, members, healths, 2));
    keep(velum_wire_put_health(frame, sizeof frame, &some_health));
    keep(velum_wire_put_query(frame, sizeof frame, 14, text_of("nodes", 5)));
    keep(velum_wire_put_query(frame, sizeof frame, 14, long_text(255)));
    velum_wire_put_header(frame, VELUM_F_ANSWER, 2, 14);
    memcpy(frame + VELUM_HEADER_BYTES, "[]", 2);
    keep((int)VELUM_HEADER_BYTES + 2);
}

static void sample_datagrams(void) {
    velum_datagram d;
    memset(&d, 0, sizeof d);
    d.sequence = UINT64_C(0x1122334455667788);
    d.sender = 1;
    d.target = 3;
    d.health = some_health;
    d.addr = some_member.addr;
    d.role = VELUM_ROLE_LEAF;
    for (int full = 0; full < 2; full++) {
        for (d.type = VELUM_F_PROBE; d.type <= VELUM_F_BEACON; d.type++)
            keep(velum_wire_put_datagram(frame, sizeof frame, &d));
        d.flags = VELUM_BEACON_ASK;
        d.incarnation = UINT64_MAX;
        d.nupdates = VELUM_UPDATES_MAX;
        for (size_t i = 0; i < VELUM_UPDATES_MAX; i++)
            d.updates[i] = some_member;
    }
    d.type = VELUM_F_BEACON;
    d.role = VELUM_ROLE_CLIENT;
    d.sender = VELUM_ID_NONE;
    keep(velum_wire_put_datagram(frame, sizeof frame, &d));
}

/* ---- the header ---- */

static void test_header(void) {
    velum_header h;
    uint8_t buf[16];
    int types = 0;
    velum_wire_put_header(buf, VELUM_F_CALL, 0x345, UINT64_C(0x0123456789abcdef));
    CHECK(memcmp(buf, "VL\x01\x10\x45\x03\0\0\xef\xcd\xab\x89\x67\x45\x23\x01", 16) == 0);
    CHECK_EQ(velum_wire_header(buf, sizeof buf, &h), 16);
    CHECK(h.type == VELUM_F_CALL && h.length == 0x345 &&
          h.correlation == UINT64_C(0x0123456789abcdef));
    for (unsigned type = 0; type < 256; type++) {
        int64_t limit = velum_wire_limit((uint8_t)type);
        bool known = strcmp(velum_wire_name((uint8_t)type), "?") != 0;
        CHECK_EQ(limit >= 0, known);
        types += known;
        velum_wire_put_header(buf, (uint8_t)type, known ? (uint32_t)limit : 0, 0);
        CHECK_EQ(velum_wire_header(buf, 16, &h), known ? 16 : VELUM_E_FRAME_TYPE);
        CHECK_EQ(velum_wire_header(buf, 4, &h), known ? 0 : VELUM_E_FRAME_TYPE);
        if (!known) continue;
        velum_wire_put_header(buf, (uint8_t)type, (uint32_t)limit + 1, 0);
        CHECK_EQ(velum_wire_header(buf, 16, &h), VELUM_E_FRAME_LENGTH);
        CHECK_EQ(velum_wire_header(buf, 8, &h), VELUM_E_FRAME_LENGTH);
        velum_wire_put_header(buf, (uint8_t)type, UINT32_MAX, 0);
        CHECK_EQ(velum_wire_header(buf, 16, &h), VELUM_E_FRAME_LENGTH);
    }
    CHECK_EQ(types, 58);
}

/* A stranger is refused at the first byte that is wrong. */
static void test_header_refuses_early(void) {
    velum_header h;
    CHECK_EQ(velum_wire_header((const uint8_t *)"G", 1, &h), VELUM_E_MAGIC);
    CHECK_EQ(velum_wire_header((const uint8_t *)"VX", 2, &h), VELUM_E_MAGIC);
    CHECK_EQ(velum_wire_header((const uint8_t *)"VL\x02", 3, &h), VELUM_E_WIRE_VERSION);
    CHECK_EQ(velum_wire_header((const uint8_t *)"VL\x01\x7f", 4, &h), VELUM_E_FRAME_TYPE);
    CHECK_EQ(velum_wire_header((const uint8_t *)"VL\x01", 3, &h), 0);
    CHECK_EQ(velum_wire_header(NULL, 0, &h), 0);
}

/* ---- fields arrive where they left ---- */

static void test_fields_of_work(void) {
    velum_task task = {VELUM_TASK_PLACED, 250, UINT64_C(1) << 40, 17, {0}, {"sum", 3}, 2, {{0, 0}}};
    velum_task back;
    velum_result result = {9, 1234, some_health, 1, {{VELUM_F64, 42}}}, result_back;
    int n;
    task.hash[31] = 0xee;
    task.args[0].type = VELUM_I32;
    task.args[0].bits = 0xfffffff6;
    task.args[1].type = VELUM_I64;
    task.args[1].bits = UINT64_MAX;
    n = velum_wire_put_task(frame, sizeof frame, 1, &task);
    CHECK_EQ(velum_wire_get_task(frame + 16, (size_t)n - 16, &back), n - 16);
    CHECK(back.flags == VELUM_TASK_PLACED && back.timeout_ms == 250 && back.pages == 17);
    CHECK(back.fuel == task.fuel && memcmp(back.hash, task.hash, sizeof task.hash) == 0);
    CHECK(back.name.size == 3 && memcmp(back.name.data, "sum", 3) == 0);
    CHECK((const uint8_t *)back.name.data > frame &&
          (const uint8_t *)back.name.data < frame + n); /* no copy was made */
    CHECK(back.nargs == 2 && back.args[0].bits == 0xfffffff6 && back.args[1].type == VELUM_I64);
    n = velum_wire_put_result(frame, sizeof frame, 1, &result);
    CHECK_EQ(velum_wire_get_result(frame + 16, (size_t)n - 16, &result_back), n - 16);
    CHECK(result_back.node == 9 && result_back.run_us == 1234 && result_back.nvalues == 1);
    CHECK(result_back.health.speed == 210000 && result_back.health.free_mib == 1500);
    CHECK(result_back.values[0].type == VELUM_F64 && result_back.values[0].bits == 42);
}

static void test_fields_of_members(void) {
    velum_datagram d, back;
    velum_member member;
    velum_health health;
    size_t count;
    int n =
        velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC, 1, &some_member, &some_health, 1);
    CHECK_EQ(velum_wire_get_sync(frame + 16, (size_t)n - 16, &count), n - 16);
    CHECK_EQ(count, 1);
    CHECK_EQ(velum_wire_get_sync_at(frame + 16, (size_t)n - 16, 0, &member, &health), 44);
    CHECK(member.id == 3 && member.state == VELUM_MEMBER_SUSPECT && member.from == 9);
    CHECK(member.addr.ip == 0x7f000001 && member.addr.port == 8003 && health.queue == 3);
    CHECK(health.ram_mib == 1024 && health.ram_free_mib == 1000);
    CHECK_EQ(velum_wire_get_sync_at(frame + 16, (size_t)n - 16, 1, &member, &health),
             VELUM_E_ARGUMENT);
    memset(&d, 0, sizeof d);
    memset(&back, 0xff, sizeof back);
    d.type = VELUM_F_NACK;
    d.sequence = 77;
    d.sender = 5;
    d.target = 6;
    n = velum_wire_put_datagram(frame, sizeof frame, &d);
    CHECK_EQ(velum_wire_get_datagram(frame, (size_t)n, &back), n);
    CHECK(back.sequence == 77 && back.sender == 5 && back.target == 6 && back.nupdates == 0);
    CHECK(back.incarnation == 0 && back.health.cores == 0); /* absent fields are zero */
}

/* ---- what an encoder refuses ---- */

static int hello_with(uint8_t role, uint8_t slots, uint16_t id, size_t version, size_t key) {
    static uint8_t bytes[300];
    velum_hello m = {role, slots, id, 0, 0, {0, 0}, {NULL, 0}, NULL, 0};
    m.version = long_text(version);
    m.key = bytes;
    m.key_size = (uint16_t)key;
    return velum_wire_put_hello(frame, sizeof frame, 0, &m);
}

static void test_refusals_of_link(void) {
    velum_bye bye = {0, {NULL, 1}};
    velum_error error = {0, 1, 0, {NULL, 0}};
    REFUSED(hello_with(0, 0, 0, 0, 0));
    REFUSED(hello_with(5, 0, 0, 0, 0));
    REFUSED(hello_with(VELUM_ROLE_NODE, 1, 0, 0, 0));
    REFUSED(hello_with(VELUM_ROLE_LEAF, 1, 0, 0, 0));
    REFUSED(hello_with(VELUM_ROLE_WORKER, 1, 1, 0, 0));
    REFUSED(hello_with(VELUM_ROLE_CLIENT, 0, 1, 0, 0));
    REFUSED(hello_with(VELUM_ROLE_CLIENT, 1, 0, 0, 0));
    REFUSED(hello_with(VELUM_ROLE_NODE, 1, 1, 65, 0));
    REFUSED(hello_with(VELUM_ROLE_NODE, 1, 1, 0, 257));
    REFUSED(velum_wire_put_bye(frame, sizeof frame, &bye));
    bye.text = long_text(VELUM_TEXT_BYTES_MAX + 1);
    REFUSED(velum_wire_put_bye(frame, sizeof frame, &bye));
    REFUSED(velum_wire_put_empty(frame, sizeof frame, VELUM_F_CALL, 0));
    REFUSED(velum_wire_put_error(frame, sizeof frame, 0, &error));
    REFUSED(velum_wire_put_cancel(frame, sizeof frame, 0, 0));
    REFUSED(velum_wire_put_cancel(frame, sizeof frame, 0, 60));
    REFUSED(velum_wire_put_query(frame, sizeof frame, 0, long_text(256)));
}

static void test_refusals_of_work(void) {
    velum_call call = {0};
    velum_result result = {0};
    velum_module_want want = {{0}, VELUM_MODULE_BYTES_MAX};
    velum_module_part part = {{0}, 0, 0, 0};
    call.flags = 2;
    REFUSED(velum_wire_put_call(frame, sizeof frame, 0, &call));
    call.flags = 0;
    call.nargs = VELUM_ARGS_MAX + 1;
    REFUSED(velum_wire_put_call(frame, sizeof frame, 0, &call));
    call.nargs = 1; /* of type 0 */
    REFUSED(velum_wire_put_call(frame, sizeof frame, 0, &call));
    call.args[0].type = VELUM_I32;
    call.args[0].bits = UINT64_C(1) << 32;
    REFUSED(velum_wire_put_call(frame, sizeof frame, 0, &call));
    REFUSED(velum_wire_put_result(frame, sizeof frame, 0, &result)); /* no cores */
    REFUSED(velum_wire_put_module_want(frame, sizeof frame, 0, &want));
    want.offset = 1;
    REFUSED(velum_wire_put_module_want(frame, sizeof frame, 0, &want));
    REFUSED(velum_wire_put_module_head(frame, sizeof frame, 0, &part));
    part.total = VELUM_MODULE_BYTES_MAX + 1;
    part.size = VELUM_MODULE_PART_BYTES;
    REFUSED(velum_wire_put_module_head(frame, sizeof frame, 0, &part));
    part.total = VELUM_MODULE_PART_BYTES + 1;
    part.offset = 1; /* parts do not begin there */
    REFUSED(velum_wire_put_module_head(frame, sizeof frame, 0, &part));
    part.offset = VELUM_MODULE_PART_BYTES;
    REFUSED(velum_wire_put_module_head(frame, sizeof frame, 0, &part));
    part.size = 1;
    CHECK_EQ(velum_wire_put_module_head(frame, sizeof frame, 0, &part), 56);
    part.offset = part.total;
    part.size = 0;
    REFUSED(velum_wire_put_module_head(frame, sizeof frame, 0, &part));
}

static int datagram_with(uint8_t type, uint16_t sender, uint16_t target, uint8_t role,
                         uint8_t flags) {
    velum_datagram d;
    memset(&d, 0, sizeof d);
    d.type = type;
    d.sender = sender;
    d.target = target;
    d.role = role;
    d.flags = flags;
    d.health = some_health;
    return velum_wire_put_datagram(frame, sizeof frame, &d);
}

static void test_refusals_of_members(void) {
    velum_health health = some_health;
    velum_member member = some_member;
    velum_datagram d;
    health.ram_free_mib = health.ram_mib + 1;
    REFUSED(velum_wire_put_health(frame, sizeof frame, &health));
    health.ram_free_mib = health.ram_mib;
    health.cpu = 101;
    REFUSED(velum_wire_put_health(frame, sizeof frame, &health));
    REFUSED(velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC, 0, &member, &health, 1));
    REFUSED(velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC, 0, &member, &some_health, 0));
    REFUSED(velum_wire_put_sync(frame, sizeof frame, VELUM_F_CALL, 0, &member, &some_health, 1));
    member.state = 5;
    REFUSED(velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC, 0, &member, &some_health, 1));
    REFUSED(datagram_with(VELUM_F_CALL, 1, 2, 0, 0));
    REFUSED(datagram_with(0x36, 1, 2, 0, 0));
    REFUSED(datagram_with(VELUM_F_PROBE, 0, 2, 0, 0));
    REFUSED(datagram_with(VELUM_F_PROBE, 1, 0, 0, 0));
    REFUSED(datagram_with(VELUM_F_BEACON, 1, 0, VELUM_ROLE_WORKER, 0));
    REFUSED(datagram_with(VELUM_F_BEACON, 0, 0, VELUM_ROLE_NODE, 0));
    REFUSED(datagram_with(VELUM_F_BEACON, 1, 0, VELUM_ROLE_CLIENT, 0));
    REFUSED(datagram_with(VELUM_F_BEACON, 1, 0, VELUM_ROLE_NODE, 2));
    memset(&d, 0, sizeof d);
    d.type = VELUM_F_GOSSIP;
    d.sender = 1;
    d.nupdates = VELUM_UPDATES_MAX + 1;
    REFUSED(velum_wire_put_datagram(frame, sizeof frame, &d));
    d.nupdates = 1; /* of id 0 */
    REFUSED(velum_wire_put_datagram(frame, sizeof frame, &d));
}

/* ---- larger things ---- */

static void test_full_sync(void) {
    size_t count = (VELUM_FRAME_BYTES_MAX - 2) / 44;
    velum_member *members = malloc((count + 1) * sizeof *members);
    velum_health *healths = malloc((count + 1) * sizeof *healths);
    int n;
    if (members == NULL || healths == NULL) abort();
    for (size_t i = 0; i <= count; i++) {
        members[i] = some_member;
        members[i].id = (uint16_t)(i + 1);
        healths[i] = some_health;
    }
    n = velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC, 0, members, healths, count);
    CHECK_EQ(n, 16 + 2 + 44 * (int)count);
    CHECK_EQ(recode(frame, (size_t)n, out, sizeof out), n);
    CHECK(memcmp(frame, out, (size_t)n) == 0);
    REFUSED(velum_wire_put_sync(frame, sizeof frame, VELUM_F_SYNC, 0, members, healths, count + 1));
    free(members);
    free(healths);
}

static void test_module_head(void) {
    velum_module_part part = {{0}, VELUM_MODULE_PART_BYTES + 1, 0, VELUM_MODULE_PART_BYTES}, back;
    uint8_t *head = frame + VELUM_HEADER_BYTES;
    CHECK_EQ(velum_wire_put_module_head(frame, 56, 3, &part), 56);
    for (size_t n = 0; n < 40; n++)
        CHECK_EQ(velum_wire_get_module_head(head, n, 40 + part.size, &back), 0);
    CHECK_EQ(velum_wire_get_module_head(head, 40, 40 + part.size, &back), 40);
    CHECK(back.total == part.total && back.offset == 0 && back.size == part.size);
    CHECK_EQ(velum_wire_get_module_head(head, 40, 39 + part.size, &back), VELUM_E_PAYLOAD);
    CHECK_EQ(velum_wire_get_module_head(head, 40, 41 + part.size, &back), VELUM_E_PAYLOAD);
    CHECK_EQ(velum_wire_get_module_head(head, 40, 39, &back), VELUM_E_PAYLOAD);
    CHECK_EQ(velum_wire_get_module_head(head, 40, 0, &back), VELUM_E_PAYLOAD);
}

/* Unicode 15, table 3-7: each row's edges, and what lies just outside. */
static void test_utf8(void) {
    static const char *const good[] = {"",
                                       "a",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "a\xc3\xa9z"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2z",
                                      "\xe0\x9f\xbf",
                                      "\xe1\x80",
                                      "\xe1\x80z",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf1\x80\x80",
                                      "\xf1\x80\x80z",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "ok\xe2\x82"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(velum_wire_put_query(frame, 300, 0, text_of(good[i], strlen(good[i]))) > 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(velum_wire_put_query(frame, 300, 0, text_of(bad[i], strlen(bad[i]))));
}

static void test_errors(void) {
    CHECK(strcmp(velum_errname(VELUM_E_PAYLOAD), "PAYLOAD") == 0);
    CHECK(strcmp(velum_strerror(VELUM_E_PAYLOAD), "malformed payload") == 0);
    CHECK(strcmp(velum_errname(0), "OK") == 0 && strcmp(velum_strerror(0), "success") == 0);
    CHECK(strcmp(velum_errname(24), "UNKNOWN") == 0); /* errors are negative */
    CHECK(strcmp(velum_errname(-9999), "UNKNOWN") == 0);
    CHECK(strcmp(velum_strerror(-9999), "unknown error") == 0);
}

/* ---- golden vectors ---- */

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef", *at = strchr(digits, c);
    return at != NULL && c != 0 ? (int)(at - digits) : -1;
}

/* Decodes to `bytes`; the number of bytes, or -1. */
static int unhex(const char *hex, uint8_t *bytes, size_t cap) {
    size_t n = 0;
    for (; hex[0] != 0 && hex[0] != '\n'; hex += 2, n++) {
        int high = hex_digit(hex[0]), low = high < 0 ? -1 : hex_digit(hex[1]);
        if (low < 0 || n == cap) return -1;
        bytes[n] = (uint8_t)(high << 4 | low);
    }
    return (int)n;
}

/* Opens FOLDER/NAME.txt. */
static FILE *open_vectors(const char *folder, const char *name) {
    char path[1024];
    FILE *file = NULL;
    int n = snprintf(path, sizeof path, "%s/%s.txt", folder, name);
    if (n > 0 && (size_t)n < sizeof path) file = fopen(path, "r");
    if (file == NULL) printf("cannot open %s/%s.txt\n", folder, name);
    CHECK(file != NULL);
    return file;
}

/* Lines "name hex": each must recode to itself. */
static void test_vectors(const char *folder, const char *group) {
    static char line[16384];
    static uint8_t bytes[sizeof line / 2];
    FILE *file = open_vectors(folder, group);
    int lines = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *space = strchr(line, ' ');
        int n = space != NULL ? unhex(space + 1, bytes, sizeof bytes) : -1;
        int got = n > 0 ? recode_exact(bytes, (size_t)n) : -1;
        if (got != n || n < 0 || memcmp(out, bytes, (size_t)n) != 0) printf("%s: %s", group, line);
        CHECK(n > 0 && got == n && memcmp(out, bytes, (size_t)n) == 0);
        lines++;
    }
    CHECK(lines > 0);
    if (file != NULL) fclose(file);
}

/* Lines "name ERROR hex"; ERROR is MORE for a frame that is cut short. */
static void test_invalid_vectors(const char *folder) {
    static char line[16384];
    static uint8_t bytes[sizeof line / 2];
    FILE *file = open_vectors(folder, "invalid");
    int lines = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *expected = strchr(line, ' '), *hex = NULL;
        const char *name = "";
        int n = -1;
        if (expected != NULL) hex = strchr(++expected, ' ');
        if (hex != NULL) {
            int got;
            *hex++ = 0;
            n = unhex(hex, bytes, sizeof bytes);
            got = n >= 0 ? recode_exact(bytes, (size_t)n) : 1;
            name = got == 0 ? "MORE" : got > 0 ? "accepted" : velum_errname(got);
        }
        if (n < 0 || strcmp(name, expected) != 0) printf("invalid: %s: got %s\n", line, name);
        CHECK(n >= 0 && strcmp(name, expected) == 0);
        lines++;
    }
    CHECK(lines > 0);
    if (file != NULL) fclose(file);
}

int main(int argc, char **argv) {
    static const char *const groups[] = {"link",  "work",      "jobs",   "modules", "members",
                                         "query", "datagrams", "chunks", "names",   "kv"};
    sample_link();
    sample_work();
    sample_rest();
    sample_datagrams();
    check_samples();
    test_header();
    test_header_refuses_early();
    test_fields_of_work();
    test_fields_of_members();
    test_refusals_of_link();
    test_refusals_of_work();
    test_refusals_of_members();
    test_full_sync();
    test_module_head();
    test_utf8();
    test_errors();
    for (size_t i = 0; argc > 1 && i < sizeof groups / sizeof *groups; i++)
        test_vectors(argv[1], groups[i]);
    if (argc > 1) test_invalid_vectors(argv[1]);
    return check_report("test_wire");
}
