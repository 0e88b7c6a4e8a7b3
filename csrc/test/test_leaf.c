/* test_leaf.c: a leaf among full nodes made by hand, in the test port's world, where time passes
 * only as the test says: joining, probes, refutation, conflicts of ids, ways back in, leaving.
 */
#include "full_node.h"
#include "leaf.h"
#include "port/test/port_test.h"

#define SECOND       INT64_C(1000000)
#define LEAF_ID      7
#define BEACON_PORT  8888
#define LOOPBACK_ALL 0x7fffffffu

typedef struct {
    velum_hub *hub;
    velum_leaf *leaf;
    unsigned dropped;
} station;

static full_node one, two;
static station st;

static void on_dropped(void *user, const velum_event *closed) {
    station *s = user;
    s->dropped++;
    velum_leaf_event(s->leaf, closed);
}

static int open_leaf(uint16_t id, velum_addr listen, velum_addr seed) {
    velum_hub_config hub = {VELUM_LEAF_LINKS_MAX, 1024u * 1024u, true, 0};
    velum_leaf_config config = {.id = id,
                                .slots = id != 0 ? 1 : 0,
                                .listen = listen,
                                .seed = seed,
                                .beacon_port = BEACON_PORT,
                                .dropped = on_dropped,
                                .user = &st};
    memset(&st, 0, sizeof st);
    CHECK_EQ(velum_hub_open(&st.hub, &hub), 0);
    return velum_leaf_open(&st.leaf, st.hub, &config);
}

static void close_leaf(void) {
    velum_leaf_close(st.leaf);
    velum_hub_close(st.hub);
    memset(&st, 0, sizeof st);
}

/* The leaf does what is due and serves once, without sleeping. */
static void leaf_serve(void) {
    velum_event events[32];
    int n;
    (void)velum_leaf_tick(st.leaf);
    n = velum_hub_poll(st.hub, 0, events, 32);
    CHECK(n >= 0);
    for (int i = 0; i < n; i++)
        velum_leaf_event(st.leaf, &events[i]);
}

/* Serves everybody until nothing can be under way any more. */
static void settle(void) {
    for (int i = 0; i < 12; i++) {
        leaf_serve();
        if (one.hub != NULL) node_serve(&one, 0);
        if (two.hub != NULL) node_serve(&two, 0);
    }
}

/* Lets time pass, in small steps, everybody being served. */
static void pass(int64_t us) {
    for (int64_t gone = 0; gone < us; gone += SECOND / 20) {
        velum_test_advance(SECOND / 20);
        settle();
    }
}

static const velum_member *me(void) {
    return velum_leaf_me(st.leaf);
}

/* A world with node 1, and the leaf joined through it. */
static void joined_world(void) {
    velum_test_reset(1);
    node_open(&one, 1);
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 0}, one.me.addr), 0);
    settle();
    CHECK(velum_leaf_joined(st.leaf));
}

static void end_world(void) {
    if (st.hub != NULL) close_leaf();
    if (one.hub != NULL) node_close(&one);
    if (two.hub != NULL) node_close(&two);
    CHECK_EQ(velum_test_open(), 0);
    CHECK_EQ(velum_test_misuse(), 0);
}

static velum_datagram probe(uint64_t sequence, uint16_t target, uint64_t suspected) {
    return (velum_datagram){.type = VELUM_F_PROBE,
                            .sequence = sequence,
                            .target = target,
                            .incarnation = suspected,
                            .health = {.cores = 1}};
}

static velum_member record_of_leaf(uint8_t state, uint64_t incarnation, velum_addr addr) {
    return (velum_member){LEAF_ID, state, VELUM_ROLE_LEAF, incarnation, addr, 0};
}

static velum_datagram gossip(velum_member update) {
    velum_datagram message = {.type = VELUM_F_GOSSIP, .nupdates = 1};
    message.updates[0] = update;
    return message;
}

/* ---- joining ---- */

static void test_joins_by_its_seed(void) {
    velum_test_reset(1);
    node_open(&one, 1);
    one.mute = true;
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 0}, one.me.addr), 0);
    settle();
    CHECK_EQ(one.hello.role, VELUM_ROLE_LEAF);
    CHECK_EQ(one.hello.id, LEAF_ID);
    CHECK_EQ(one.hello.slots, 1);
    CHECK_EQ(one.hello.addr.port, me()->addr.port);
    CHECK(one.hello.incarnation == me()->incarnation && me()->incarnation > 1);
    CHECK_EQ(one.syncs, 1);
    CHECK_EQ(one.told.id, LEAF_ID);
    CHECK_EQ(one.told.state, VELUM_MEMBER_ALIVE);
    CHECK_EQ(one.told.role, VELUM_ROLE_LEAF);
    CHECK(!velum_leaf_joined(st.leaf)); /* nobody has said that it is known */
    CHECK(velum_leaf_home(st.leaf) != 0);
    node_sync(&one, one.link, VELUM_F_SYNC_REPLY, 1);
    settle();
    CHECK(velum_leaf_joined(st.leaf));
    CHECK_EQ(velum_leaf_home_addr(st.leaf)->port, one.me.addr.port);
    end_world();
}

static void test_waits_for_a_seed_that_starts_later(void) {
    velum_addr seed = {LOCAL_IP, 8001};
    velum_test_reset(1);
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 8007}, seed), 0);
    pass(3 * SECOND);
    CHECK_EQ(velum_leaf_why(st.leaf)->error, VELUM_E_REFUSED);
    CHECK(!velum_leaf_why(st.leaf)->final);
    CHECK_EQ(velum_leaf_why(st.leaf)->where.port, 8001);
    node_open_at(&one, 1, 5, 8001);
    pass(3 * SECOND);
    CHECK(velum_leaf_joined(st.leaf));
    CHECK_EQ(one.opened, 1);
    end_world();
}

static void test_finds_a_node_by_beacon(void) {
    velum_addr heard = {LOOPBACK_ALL, BEACON_PORT};
    velum_datagram beacon = {.type = VELUM_F_BEACON, .role = VELUM_ROLE_NODE};
    uint8_t index;
    velum_test_reset(1);
    node_open(&one, 1);
    CHECK_EQ(velum_hub_udp(one.hub, &heard, true, &index), 0);
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 0}, (velum_addr){0, 0}), 0);
    settle();
    CHECK_EQ(node_count(&one, VELUM_F_BEACON), 1);
    CHECK_EQ(node_datagram(&one, VELUM_F_BEACON)->sender, LEAF_ID);
    CHECK_EQ(node_datagram(&one, VELUM_F_BEACON)->role, VELUM_ROLE_LEAF);
    CHECK_EQ(node_datagram(&one, VELUM_F_BEACON)->flags, VELUM_BEACON_ASK);
    CHECK(node_datagram(&one, VELUM_F_BEACON)->incarnation == me()->incarnation);
    pass(10 * SECOND); /* asks again and again, ever more rarely */
    CHECK(node_count(&one, VELUM_F_BEACON) > 5);
    CHECK(node_count(&one, VELUM_F_BEACON) < 12);
    beacon.addr = (velum_addr){0, one.me.addr.port}; /* "the address you see me at" */
    beacon.incarnation = one.me.incarnation;
    node_send(&one, me()->addr, beacon);
    settle();
    CHECK(velum_leaf_joined(st.leaf));
    end_world();
}

/* A node that heard the beacon may dial instead, and exchanges state by itself. */
static void test_is_joined_by_a_node_that_dials(void) {
    velum_handle link;
    velum_test_reset(1);
    node_open(&one, 1);
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 0}, (velum_addr){0, 0}), 0);
    CHECK_EQ(velum_hub_dial(one.hub, &me()->addr, 1, &link), 0);
    settle();
    CHECK_EQ(one.link, link);
    CHECK(velum_leaf_joined(st.leaf));
    CHECK_EQ(one.syncs, 1);
    node_sync(&one, link, VELUM_F_SYNC, 77);
    settle();
    CHECK_EQ(one.syncs, 2); /* it answers, too */
    CHECK_EQ(one.told.id, LEAF_ID);
    end_world();
}

static void test_listens_on_one_number(void) {
    velum_addr free_port = {LOCAL_IP, 0}, taken = {LOCAL_IP, 8007}, from;
    velum_fd fd;
    velum_test_reset(1);
    CHECK_EQ(velum_port_listen(&taken, &fd), 0);
    CHECK_EQ(open_leaf(LEAF_ID, taken, free_port), VELUM_E_ADDRESS_IN_USE);
    velum_hub_close(st.hub);
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){0, 8008}, free_port), VELUM_E_ARGUMENT);
    velum_hub_close(st.hub);
    CHECK_EQ(open_leaf(LEAF_ID, free_port, free_port), 0);
    CHECK(me()->addr.port != 0);
    from = me()->addr;
    velum_port_close(fd);
    CHECK_EQ(velum_port_dial(&from, &fd), 0);
    velum_port_close(fd);
    end_world();
}

/* ---- probes ---- */

static void test_answers_probes(void) {
    const velum_datagram *ack;
    velum_datagram stray;
    velum_health health = {.cpu = 40, .slots = 1, .cores = 2, .queue = 3, .speed = 99};
    joined_world();
    velum_leaf_health(st.leaf, &health);
    node_send(&one, me()->addr, probe(11, LEAF_ID, 0));
    settle();
    ack = node_datagram(&one, VELUM_F_ACK);
    CHECK_EQ(ack->sequence, 11);
    CHECK_EQ(ack->sender, LEAF_ID);
    CHECK_EQ(ack->target, LEAF_ID);
    CHECK(ack->incarnation == me()->incarnation);
    CHECK_EQ(ack->health.queue, 3);
    CHECK_EQ(ack->health.speed, 99);
    stray = probe(12, 9, 0); /* for who had this address before; its news are not heard either */
    stray.nupdates = 1;
    stray.updates[0] = record_of_leaf(VELUM_MEMBER_DEAD, me()->incarnation, me()->addr);
    node_send(&one, me()->addr, stray);
    settle();
    CHECK_EQ(node_count(&one, VELUM_F_ACK), 1);
    CHECK(me()->incarnation == stray.updates[0].incarnation);
    node_send(&one, me()->addr,
              (velum_datagram){.type = VELUM_F_PROBE_REQUEST, .sequence = 13, .target = 9});
    settle();
    CHECK_EQ(node_datagram(&one, VELUM_F_NACK)->sequence, 13);
    CHECK_EQ(node_datagram(&one, VELUM_F_NACK)->target, 9);
    CHECK_EQ(node_datagram(&one, VELUM_F_NACK)->sender, LEAF_ID);
    end_world();
}

static void test_leaves_questions_to_full_nodes(void) {
    joined_world();
    node_send(&one, me()->addr,
              (velum_datagram){.type = VELUM_F_BEACON,
                               .role = VELUM_ROLE_NODE,
                               .flags = VELUM_BEACON_ASK,
                               .addr = one.me.addr});
    node_send(
        &one, me()->addr,
        (velum_datagram){.type = VELUM_F_ACK, .sequence = 1, .target = 3, .health = {.cores = 1}});
    settle();
    CHECK_EQ(node_count(&one, VELUM_F_BEACON), 0);
    CHECK_EQ(node_count(&one, VELUM_F_GOSSIP), 0);
    end_world();
}

/* ---- refutation ---- */

static void test_refutes_a_suspicion_told_by_probe(void) {
    const velum_datagram *ack;
    uint64_t before;
    joined_world();
    before = me()->incarnation;
    node_send(&one, me()->addr, probe(1, LEAF_ID, before - 1)); /* it rose long ago */
    settle();
    CHECK(me()->incarnation == before);
    node_send(&one, me()->addr, probe(2, LEAF_ID, before));
    settle();
    ack = node_datagram(&one, VELUM_F_ACK);
    CHECK(me()->incarnation == before + 1 && ack->incarnation == before + 1);
    CHECK_EQ(ack->nupdates, 1); /* and as a record that can be passed on */
    CHECK_EQ(ack->updates[0].id, LEAF_ID);
    CHECK_EQ(ack->updates[0].state, VELUM_MEMBER_ALIVE);
    CHECK(ack->updates[0].incarnation == before + 1);
    node_send(&one, me()->addr, probe(3, LEAF_ID, before + 50));
    settle();
    CHECK(node_datagram(&one, VELUM_F_ACK)->incarnation == before + 51);
    node_send(&one, me()->addr, probe(4, LEAF_ID, UINT64_MAX)); /* nobody could rise above it */
    settle();
    CHECK(me()->incarnation == before + 51);
    CHECK_EQ(node_count(&one, VELUM_F_ACK), 4);
    end_world();
}

static void test_refutes_records(void) {
    static const uint8_t states[] = {VELUM_MEMBER_SUSPECT, VELUM_MEMBER_DEAD, VELUM_MEMBER_LEFT};
    joined_world();
    for (size_t i = 0; i < sizeof states; i++) {
        uint64_t before = me()->incarnation;
        unsigned told = node_count(&one, VELUM_F_GOSSIP);
        node_send(&one, me()->addr, gossip(record_of_leaf(states[i], before, me()->addr)));
        settle();
        CHECK(me()->incarnation == before + 1);
        CHECK_EQ(node_count(&one, VELUM_F_GOSSIP), told + 1);
        CHECK(node_datagram(&one, VELUM_F_GOSSIP)->updates[0].incarnation == before + 1);
        node_send(&one, me()->addr, gossip(record_of_leaf(states[i], before, me()->addr)));
        node_send(&one, me()->addr, gossip(record_of_leaf(states[i], UINT64_MAX, me()->addr)));
        settle();
        CHECK(me()->incarnation == before + 1);
    }
    node_send(&one, me()->addr,
              gossip(record_of_leaf(VELUM_MEMBER_ALIVE, me()->incarnation, me()->addr)));
    settle();
    CHECK_EQ(node_count(&one, VELUM_F_GOSSIP), 3); /* all is well */
    end_world();
}

static void test_tells_the_accuser_too(void) {
    velum_member accusation;
    joined_world();
    node_open(&two, 2);
    one.tells[0] = two.me;
    one.ntells = 1;
    node_sync(&one, one.link, VELUM_F_SYNC, 5);
    settle();
    accusation = record_of_leaf(VELUM_MEMBER_SUSPECT, me()->incarnation, me()->addr);
    accusation.from = 2;
    node_send(&one, me()->addr, gossip(accusation));
    settle();
    CHECK_EQ(node_count(&one, VELUM_F_GOSSIP), 1);
    CHECK_EQ(node_count(&two, VELUM_F_GOSSIP), 1);
    end_world();
}

/* Restarted without a calendar clock, it is below what the mesh remembers of it. */
static void test_rises_above_what_a_sync_remembers(void) {
    uint64_t remembered;
    velum_test_reset(1);
    node_open(&one, 1);
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 8007}, one.me.addr), 0);
    remembered = me()->incarnation + 1000;
    one.tells[0] = record_of_leaf(VELUM_MEMBER_DEAD, remembered, me()->addr);
    one.ntells = 1;
    settle();
    CHECK(velum_leaf_joined(st.leaf));
    CHECK(me()->incarnation == remembered + 1);
    CHECK(node_datagram(&one, VELUM_F_GOSSIP)->updates[0].incarnation == remembered + 1);
    one.tells[0].state = VELUM_MEMBER_ALIVE;
    one.tells[0].incarnation = remembered + 10;
    node_sync(&one, one.link, VELUM_F_SYNC, 6);
    settle();
    CHECK(one.told.incarnation == remembered + 11); /* said in the very answer */
    end_world();
}

/* ---- two with one id ---- */

static void expect_final(const char *part) {
    const velum_leaf_trouble *why = velum_leaf_why(st.leaf);
    CHECK(why->final);
    CHECK_EQ(why->error, VELUM_E_DUPLICATE_ID);
    CHECK(strstr(why->text, part) != NULL);
    CHECK_EQ(velum_leaf_home(st.leaf), 0);
    pass(5 * SECOND);
    CHECK(!velum_leaf_joined(st.leaf));
}

static void test_stops_when_its_id_is_refused(void) {
    velum_test_reset(1);
    node_open(&one, 1);
    one.refuse = (uint16_t)-VELUM_E_DUPLICATE_ID;
    one.why = "node id 7 is already in use by the node at 127.0.0.1:9007";
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 0}, one.me.addr), 0);
    settle();
    expect_final("127.0.0.1:9007");
    CHECK_EQ(one.opened, 1); /* it does not try again */
    end_world();
}

static void test_stops_when_the_first_sync_names_another(void) {
    velum_test_reset(1);
    node_open(&one, 1);
    CHECK_EQ(open_leaf(LEAF_ID, (velum_addr){LOCAL_IP, 0}, one.me.addr), 0);
    one.tells[0] = record_of_leaf(VELUM_MEMBER_ALIVE, me()->incarnation + 5, /* a clock behind */
                                  (velum_addr){LOCAL_IP, 9007});
    one.ntells = 1;
    settle();
    expect_final("127.0.0.1:9007");
    CHECK_EQ(one.close_error, VELUM_E_DUPLICATE_ID); /* and does not say that 7 has left */
    end_world();
}

static void test_the_later_one_stops(void) {
    velum_addr other = {LOCAL_IP, 9007};
    joined_world();
    node_send(&one, me()->addr,
              gossip(record_of_leaf(VELUM_MEMBER_ALIVE, me()->incarnation - 1, other)));
    settle();
    expect_final("127.0.0.1:9007");
    end_world();
}

static void test_the_earlier_one_stays_and_says_so(void) {
    joined_world();
    node_open(&two, 2);
    velum_member younger =
        record_of_leaf(VELUM_MEMBER_ALIVE, me()->incarnation + 1000, two.me.addr);
    for (int i = 0; i < 3; i++)
        node_send(&one, me()->addr, gossip(younger));
    settle();
    CHECK(!velum_leaf_why(st.leaf)->final);
    CHECK_EQ(node_count(&two, VELUM_F_GOSSIP), 1); /* once a second at most */
    CHECK(node_datagram(&two, VELUM_F_GOSSIP)->updates[0].incarnation == me()->incarnation);
    CHECK_EQ(node_count(&one, VELUM_F_GOSSIP), 0);
    end_world();
}

/* A datagram in its own name is answered with its record, and otherwise ignored. */
static void test_hears_its_own_id_as_a_sender(void) {
    velum_datagram message = probe(5, LEAF_ID, 0);
    joined_world();
    message.sender = LEAF_ID;
    CHECK_EQ(velum_hub_udp_send(one.hub, one.udp, &me()->addr, &message), 0);
    settle();
    CHECK_EQ(node_count(&one, VELUM_F_ACK), 0);
    CHECK_EQ(node_datagram(&one, VELUM_F_GOSSIP)->updates[0].id, LEAF_ID);
    end_world();
}

static void test_refuses_others(void) {
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = LEAF_ID, .incarnation = 1};
    velum_handle link;
    joined_world();
    node_open(&two, 2);
    CHECK_EQ(velum_hub_identity(two.hub, &hello), 0);
    CHECK_EQ(velum_hub_dial(two.hub, &me()->addr, 1, &link), 0);
    settle();
    CHECK_EQ(two.close_error, VELUM_E_DUPLICATE_ID);
    CHECK(strstr(two.close_text, "node id 7") != NULL);
    CHECK(strstr(two.close_text, "127.0.0.1:") != NULL);
    hello = (velum_hello){.role = VELUM_ROLE_LEAF, .id = 3, .incarnation = 1};
    CHECK_EQ(velum_hub_identity(two.hub, &hello), 0);
    CHECK_EQ(velum_hub_dial(two.hub, &me()->addr, 1, &link), 0);
    settle();
    CHECK_EQ(two.close_error, VELUM_E_UNEXPECTED);
    CHECK_EQ(two.closed, 2);
    hello = (velum_hello){.role = VELUM_ROLE_CLIENT};
    CHECK_EQ(velum_hub_identity(two.hub, &hello), 0);
    CHECK_EQ(velum_hub_dial(two.hub, &me()->addr, 1, &link), 0);
    settle();
    CHECK_EQ(two.closed, 2); /* a client may bring work for this very node */
    CHECK(two.link != 0);
    end_world();
}

/* ---- ways back ---- */

static void test_another_link_becomes_home(void) {
    velum_handle link;
    joined_world();
    node_open(&two, 2);
    CHECK_EQ(velum_hub_dial(two.hub, &me()->addr, 1, &link), 0);
    settle();
    CHECK_EQ(two.syncs, 0);
    node_close(&one);
    settle();
    CHECK(velum_leaf_joined(st.leaf));
    CHECK_EQ(velum_leaf_home_addr(st.leaf)->port, two.me.addr.port);
    CHECK_EQ(two.syncs, 1); /* it told its new home that it is there */
    CHECK_EQ(two.opened, 1);
    end_world();
}

static void test_comes_back_through_a_node_it_remembers(void) {
    joined_world();
    node_open(&two, 2);
    one.tells[0] = two.me;
    one.ntells = 1;
    node_sync(&one, one.link, VELUM_F_SYNC, 5);
    settle();
    node_close(&one);
    pass(SECOND / 2);
    CHECK(velum_leaf_joined(st.leaf));
    CHECK_EQ(velum_leaf_home_addr(st.leaf)->port, two.me.addr.port);
    CHECK_EQ(two.opened, 1);
    end_world();
}

static void test_comes_back_to_its_seed(void) {
    velum_addr seed;
    joined_world();
    seed = one.me.addr;
    node_close(&one);
    pass(8 * SECOND);
    CHECK(!velum_leaf_joined(st.leaf));
    node_open_at(&one, 1, 5000, seed.port);
    pass(3 * SECOND);
    CHECK(velum_leaf_joined(st.leaf));
    CHECK_EQ(one.told.id, LEAF_ID);
    end_world();
}

static void test_does_not_go_back_to_who_left(void) {
    joined_world();
    node_open(&two, 2);
    one.tells[0] = two.me;
    one.ntells = 1;
    node_sync(&one, one.link, VELUM_F_SYNC, 5);
    settle();
    two.me.state = VELUM_MEMBER_LEFT;
    node_send(&one, me()->addr, gossip(two.me));
    settle();
    node_close(&one);
    pass(3 * SECOND);
    CHECK_EQ(two.opened, 0);
    end_world();
}

/* Nobody probes it: the mesh has forgotten it, so it tells its record again. */
static void test_speaks_up_after_silence(void) {
    joined_world();
    for (int i = 0; i < 20; i++) {
        node_send(&one, me()->addr, probe((uint64_t)i, LEAF_ID, 0));
        pass(SECOND);
    }
    CHECK_EQ(one.syncs, 1);
    pass(20 * SECOND);
    CHECK_EQ(one.syncs, 2);
    end_world();
}

static void test_leaves(void) {
    joined_world();
    velum_leaf_leave(st.leaf);
    settle();
    CHECK_EQ(one.close_error, VELUM_E_LEAVING);
    CHECK_EQ(node_datagram(&one, VELUM_F_GOSSIP)->updates[0].state, VELUM_MEMBER_LEFT);
    CHECK_EQ(st.dropped, 1);
    node_send(&one, me()->addr, probe(1, LEAF_ID, 0));
    pass(5 * SECOND);
    CHECK_EQ(node_count(&one, VELUM_F_ACK), 0);
    CHECK_EQ(one.opened, 1);
    end_world();
}

/* ---- what it does not do ---- */

static void expect_refusal(const full_node *n, uint64_t correlation, int error) {
    const kept_frame *frame = node_frame(n, VELUM_F_ERROR);
    velum_error refusal = {0, 0, 0, {NULL, 0}};
    CHECK(velum_wire_get_error(frame->payload, frame->header.length, &refusal) > 0);
    CHECK_EQ(refusal.code, -error);
    CHECK_EQ(refusal.node, LEAF_ID);
    CHECK_EQ(frame->header.correlation, correlation);
}

static void test_refuses_what_a_leaf_does_not_do(void) {
    uint8_t frame[512];
    velum_call call = {.name = {"add", 3}};
    velum_task task = {.flags = VELUM_TASK_PLACED, .name = {"f", 1}};
    int n;
    joined_world();
    n = velum_wire_put_call(frame, sizeof frame, 1, &call);
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)n), 0);
    settle();
    expect_refusal(&one, 1, VELUM_E_UNEXPECTED);
    n = velum_wire_put_task(frame, sizeof frame, 2, &task);
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)n), 0);
    settle();
    expect_refusal(&one, 2, VELUM_E_NO_WORKER);
    n = velum_wire_put_query(frame, sizeof frame, 3, (velum_text){"nodes", 5});
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)n), 0);
    settle();
    expect_refusal(&one, 3, VELUM_E_QUERY);
    CHECK_EQ(one.closed, 0);
    end_world();
}

static void test_has_no_part_in_jobs_but_leases(void) {
    static const velum_scatter spec = {.job = 9,
                                       .reduce = VELUM_REDUCE_SUM,
                                       .priority = 1,
                                       .result = VELUM_I64,
                                       .slices = 1,
                                       .name = {"f", 1},
                                       .nargs = 2,
                                       .args = {{VELUM_I64, 0}, {VELUM_I64, 1}}};
    uint8_t frame[512];
    velum_lease lease = {.task = {.flags = VELUM_TASK_PLACED, .name = {"f", 1}, .nargs = 2},
                         .job = 9,
                         .slices = 1,
                         .count = 1,
                         .priority = 1};
    velum_hello hello = {.role = VELUM_ROLE_CLIENT};
    velum_handle link;
    int n;
    joined_world();
    memcpy(lease.task.args, spec.args, sizeof spec.args);
    n = velum_wire_put_lease(frame, sizeof frame, 1, &lease);
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)n), 0);
    settle();
    expect_refusal(&one, 1, VELUM_E_NO_WORKER);
    n = velum_wire_put_job_ask(frame, sizeof frame, 2, &(velum_job_ask){9, VELUM_ASK_HOLD, 0});
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)n), 0);
    settle();
    expect_refusal(&one, 2, VELUM_E_JOB_UNKNOWN);
    n = velum_wire_put_scatter(frame, sizeof frame, 3, &spec); /* what its program watches */
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)n), 0);
    settle();
    CHECK_EQ(one.nframes, 2);
    node_open(&two, 2);
    CHECK_EQ(velum_hub_identity(two.hub, &hello), 0);
    CHECK_EQ(velum_hub_dial(two.hub, &me()->addr, 1, &link), 0);
    settle();
    CHECK_EQ(velum_hub_send(two.hub, two.link, frame, (size_t)n), 0);
    settle();
    expect_refusal(&two, 3, VELUM_E_UNEXPECTED);
    end_world();
}

static void test_drops_a_link_with_a_broken_sync(void) {
    uint8_t frame[VELUM_HEADER_BYTES + 2u + 36u] = {0};
    joined_world();
    velum_wire_put_header(frame, VELUM_F_SYNC, sizeof frame - VELUM_HEADER_BYTES, 9);
    frame[VELUM_HEADER_BYTES] = 1; /* one record, of id 0 */
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, sizeof frame), 0);
    settle();
    CHECK_EQ(one.close_error, VELUM_E_PAYLOAD);
    CHECK_EQ(st.dropped, 1);
    pass(SECOND);
    CHECK(velum_leaf_joined(st.leaf)); /* over a new one */
    CHECK_EQ(one.opened, 2);
    end_world();
}

/* ---- bounds ---- */

static void test_remembers_a_bounded_number_of_nodes(void) {
    joined_world();
    for (uint16_t round = 0; round < 4; round++) {
        for (uint16_t i = 0; i < NODE_RECORDS_MAX; i++) {
            uint16_t id = (uint16_t)(100u + round * NODE_RECORDS_MAX + i);
            one.tells[i] = (velum_member){
                id, VELUM_MEMBER_ALIVE, VELUM_ROLE_NODE, 1, {LOCAL_IP, (uint16_t)(20000u + id)}, 0};
        }
        one.ntells = NODE_RECORDS_MAX;
        node_sync(&one, one.link, VELUM_F_SYNC, round);
        settle();
    }
    CHECK_EQ(one.closed, 0);
    node_close(&one);
    pass(10 * SECOND); /* tries them all, in vain, and goes on asking */
    CHECK_EQ(velum_leaf_why(st.leaf)->error, VELUM_E_REFUSED);
    end_world();
}

static uint64_t next_random(uint64_t *state) { /* xorshift64, Marsaglia 2003 */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Whatever well-formed datagrams say, it lives, and its incarnation never falls. */
static void test_survives_any_gossip(uint64_t seed) {
    uint64_t state = seed, before;
    int failed = check_failed_count;
    joined_world();
    for (int i = 0; i < 5000 && !velum_leaf_why(st.leaf)->final; i++) {
        velum_datagram message = {.health = {.cores = 1}};
        message.type = (uint8_t)(VELUM_F_PROBE + next_random(&state) % 6u);
        message.sequence = next_random(&state);
        message.target = (uint16_t)(1u + next_random(&state) % 9u);
        message.incarnation = me()->incarnation - 2u + next_random(&state) % 5u;
        message.role = (uint8_t)(VELUM_ROLE_NODE + next_random(&state) % 2u);
        message.nupdates = (uint8_t)(next_random(&state) % (VELUM_UPDATES_MAX + 1u));
        for (size_t j = 0; j < message.nupdates; j++) {
            velum_member *u = &message.updates[j];
            u->id = (uint16_t)(1u + next_random(&state) % 99u);
            u->state = (uint8_t)(1u + next_random(&state) % 4u);
            u->role = (uint8_t)(1u + next_random(&state) % 2u);
            u->incarnation = next_random(&state) >> (next_random(&state) % 64u);
            u->addr = u->id == LEAF_ID ? me()->addr
                                       : (velum_addr){(uint32_t)next_random(&state),
                                                      (uint16_t)next_random(&state)};
            u->from = (uint16_t)(next_random(&state) % 9u);
        }
        before = me()->incarnation;
        node_send(&one, me()->addr, message);
        leaf_serve();
        node_serve(&one, 0);
        CHECK(me()->incarnation >= before);
        if (i % 100 == 0) velum_test_advance(SECOND / 10);
    }
    CHECK(!velum_leaf_why(st.leaf)->final);
    if (check_failed_count > failed) printf("seed %llu\n", (unsigned long long)seed);
    end_world();
}

/* ---- a client ---- */

static void test_a_client_only_keeps_its_home(void) {
    velum_addr heard = {LOOPBACK_ALL, BEACON_PORT};
    velum_datagram beacon = {.type = VELUM_F_BEACON, .role = VELUM_ROLE_NODE};
    uint8_t index;
    velum_test_reset(1);
    node_open(&one, 1);
    CHECK_EQ(velum_hub_udp(one.hub, &heard, true, &index), 0);
    CHECK_EQ(open_leaf(0, (velum_addr){LOCAL_IP, 0}, (velum_addr){0, 0}), 0);
    settle();
    CHECK_EQ(node_datagram(&one, VELUM_F_BEACON)->sender, 0);
    CHECK_EQ(node_datagram(&one, VELUM_F_BEACON)->role, VELUM_ROLE_CLIENT);
    beacon.addr = one.me.addr;
    node_send(&one, one.last_from, beacon);
    settle();
    CHECK(velum_leaf_joined(st.leaf));
    CHECK_EQ(one.hello.role, VELUM_ROLE_CLIENT);
    CHECK_EQ(one.hello.id, 0);
    CHECK_EQ(one.hello.addr.port, 0);
    CHECK_EQ(one.syncs, 0);
    node_send(&one, one.last_from, probe(1, 1, 0));
    settle();
    CHECK_EQ(node_count(&one, VELUM_F_ACK), 0);
    velum_leaf_leave(st.leaf);
    settle();
    CHECK_EQ(one.close_error, VELUM_E_LEAVING);
    end_world();
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20251121u;
    test_joins_by_its_seed();
    test_waits_for_a_seed_that_starts_later();
    test_finds_a_node_by_beacon();
    test_is_joined_by_a_node_that_dials();
    test_listens_on_one_number();
    test_answers_probes();
    test_leaves_questions_to_full_nodes();
    test_refutes_a_suspicion_told_by_probe();
    test_refutes_records();
    test_tells_the_accuser_too();
    test_rises_above_what_a_sync_remembers();
    test_stops_when_its_id_is_refused();
    test_stops_when_the_first_sync_names_another();
    test_the_later_one_stops();
    test_the_earlier_one_stays_and_says_so();
    test_hears_its_own_id_as_a_sender();
    test_refuses_others();
    test_another_link_becomes_home();
    test_comes_back_through_a_node_it_remembers();
    test_comes_back_to_its_seed();
    test_does_not_go_back_to_who_left();
    test_speaks_up_after_silence();
    test_leaves();
    test_refuses_what_a_leaf_does_not_do();
    test_has_no_part_in_jobs_but_leases();
    test_drops_a_link_with_a_broken_sync();
    test_remembers_a_bounded_number_of_nodes();
    test_survives_any_gossip(seed);
    test_a_client_only_keeps_its_home();
    return check_report("leaf");
}
