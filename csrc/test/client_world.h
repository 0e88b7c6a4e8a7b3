/* client_world.h: a program and the full nodes it hangs on, in one thread, for tests of the C API:
 * `mesh` is the program's instance, `one` and `two` are nodes made by hand.
 */
#ifndef VELUM_TEST_CLIENT_WORLD_H
#define VELUM_TEST_CLIENT_WORLD_H

#include "client_internal.h"
#include "full_node.h"

#define MS        INT64_C(1000)
#define PATIENCE  (20000 * MS)
#define MEMBER_ID 42
#define FRAME_MAX 1200u
#define TURN_US   (1 * MS)

static full_node one, two;
static velum *mesh;

/* ---- a program and nodes in one thread ---- */

static inline void turn_all(void) {
    if (mesh != NULL) (void)velum__serve(mesh, velum_port_now_us() + TURN_US);
    if (one.hub != NULL) node_serve(&one, 0);
    if (two.hub != NULL) node_serve(&two, 0);
}

/* Long enough for whatever is under way. */
static inline void a_while(void) {
    for (int i = 0; i < 20; i++)
        turn_all();
}

/* Serves everybody until the condition holds; a failed CHECK after PATIENCE. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        int64_t until_end = velum_port_now_us() + PATIENCE;                                        \
        bool until_done;                                                                           \
        while (!(until_done = (condition)) && velum_port_now_us() < until_end)                     \
            turn_all();                                                                            \
        CHECK(until_done);                                                                         \
    } while (0)

/* Opens the program's instance, joining through `join`, without waiting. */
static inline void begin(uint16_t id, const full_node *join) {
    char address[32];
    velum_config config = {.id = id, .join = address};
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)join->me.addr.port);
    CHECK_EQ(velum__begin(&mesh, &config), 0);
}

static inline void attach(uint16_t id) {
    node_open(&one, 1);
    begin(id, &one);
    UNTIL(velum_leaf_joined(mesh->leaf));
}

/* Lets the member know node 2. */
static inline void add_second_node(void) {
    node_open(&two, 2);
    one.tells[0] = two.me;
    one.ntells = 1;
    node_sync(&one, one.link, VELUM_F_SYNC, 1);
    UNTIL(one.syncs == 2);
}

static inline void finish(void) {
    velum_close(mesh);
    mesh = NULL;
    if (one.hub != NULL) node_close(&one);
    if (two.hub != NULL) node_close(&two);
}

static inline void send_error(full_node *n, const kept_frame *asked, int error, const char *text) {
    uint8_t frame[FRAME_MAX];
    velum_error message = {(uint16_t)-error, n->me.id, 0, {text, (uint16_t)strlen(text)}};
    int size = velum_wire_put_error(frame, sizeof frame, asked->header.correlation, &message);
    CHECK_EQ(velum_hub_send(n->hub, asked->link, frame, (size_t)size), 0);
}

static inline velum_outcome outcome_of(velum_ticket ticket) {
    velum_outcome outcome = {.error = 1};
    int got = 0;
    UNTIL((got = velum_poll(mesh, ticket, &outcome)) != 0);
    CHECK_EQ(got, 1);
    CHECK_EQ(velum_poll(mesh, ticket, &outcome), VELUM_E_ARGUMENT); /* it is spent */
    return outcome;
}

#endif
