/* test_loop.c: the loop on the test port: who is served, when, how often, in which order. */
#include "check.h"
#include "loop.h"
#include "port/test/port_test.h"

#include <stdint.h>

#define SEED 1u

/* ---- a watch that counts, and can act on another while it is served ---- */

typedef struct probe {
    velum_watch watch;
    velum_fd ends[2]; /* the loop watches ends[0] */
    velum_loop *loop;
    int served;
    uint8_t what;
    void (*act)(struct probe *self);
    struct probe *other;
} probe;

static void probe_ready(velum_watch *w, uint8_t what) {
    probe *p = w->owner;
    p->served++;
    p->what = what;
    if (p->act != NULL) {
        p->act(p);
    }
}

static void probe_open(probe *p, velum_loop *loop, uint8_t want) {
    memset(p, 0, sizeof *p);
    velum_test_pair(p->ends);
    p->loop = loop;
    p->watch = (velum_watch)VELUM_WATCH_INIT;
    p->watch.fd = p->ends[0];
    p->watch.want = want;
    p->watch.ready = probe_ready;
    p->watch.owner = p;
}

static void probe_poke(probe *p) {
    CHECK_EQ(velum_port_send(p->ends[1], "x", 1), 1);
}

static void probe_drain(probe *p) {
    char bytes[16];
    CHECK(velum_port_recv(p->ends[0], bytes, sizeof bytes) > 0);
}

static void probe_close(probe *p) {
    velum_watch_remove(p->loop, &p->watch);
    velum_port_close(p->ends[0]);
    velum_port_close(p->ends[1]);
}

static velum_loop *start(size_t watches, size_t timers) {
    velum_loop *loop = NULL;
    velum_test_reset(SEED);
    CHECK_EQ(velum_loop_open(&loop, watches, timers), VELUM_OK);
    return loop;
}

static void finish(velum_loop *loop) {
    velum_loop_close(loop);
    CHECK_EQ(velum_test_open(), 0);
    CHECK_EQ(velum_test_misuse(), 0);
}

/* ---- watches ---- */

static void test_serves_what_is_wanted(void) {
    velum_loop *loop = start(4, 0);
    probe p;
    probe_open(&p, loop, VELUM_READABLE);
    CHECK_EQ(velum_watch_add(loop, &p.watch), VELUM_OK);
    CHECK_EQ(velum_watch_add(loop, &p.watch), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_loop_tick(loop, 0), 0);
    probe_poke(&p);
    CHECK_EQ(velum_loop_tick(loop, -1), 1);
    CHECK_EQ(p.what, VELUM_READABLE);
    velum_watch_want(loop, &p.watch, VELUM_READABLE | VELUM_WRITABLE);
    CHECK_EQ(velum_loop_tick(loop, 0), 1);
    CHECK_EQ(p.what, VELUM_READABLE | VELUM_WRITABLE);
    velum_watch_want(loop, &p.watch, 0);
    CHECK_EQ(velum_loop_tick(loop, 0), 0);
    velum_watch_remove(loop, &p.watch);
    velum_watch_remove(loop, &p.watch);
    CHECK_EQ(p.watch.slot, -1);
    velum_watch_want(loop, &p.watch, VELUM_READABLE); /* keeps the wish for a later add */
    CHECK_EQ(velum_watch_add(loop, &p.watch), VELUM_OK);
    CHECK_EQ(velum_loop_tick(loop, 0), 1);
    CHECK_EQ(p.served, 3);
    probe_close(&p);
    finish(loop);
}

static void test_table_full(void) {
    velum_loop *loop = start(2, 0);
    probe p[3];
    for (int i = 0; i < 3; i++) {
        probe_open(&p[i], loop, VELUM_READABLE);
        CHECK_EQ(velum_watch_add(loop, &p[i].watch), i < 2 ? VELUM_OK : VELUM_E_FULL);
    }
    velum_watch_remove(loop, &p[0].watch);
    CHECK_EQ(velum_watch_add(loop, &p[2].watch), VELUM_OK);
    for (int i = 0; i < 3; i++) {
        probe_poke(&p[i]);
    }
    CHECK_EQ(velum_loop_tick(loop, 0), 2);
    CHECK_EQ(p[0].served, 0);
    CHECK_EQ(p[1].served + p[2].served, 2);
    for (int i = 0; i < 3; i++) {
        probe_close(&p[i]);
    }
    finish(loop);
    CHECK_EQ(velum_loop_open(&loop, SIZE_MAX, 1), VELUM_E_NOMEM);
    CHECK_EQ(velum_loop_open(&loop, 1, SIZE_MAX), VELUM_E_NOMEM);
}

/* Removes the other watch, whichever of the two is served first, and puts a fresh handle in. */
static void replace_other(probe *self) {
    probe *o = self->other;
    velum_watch_remove(self->loop, &o->watch);
    velum_port_close(o->ends[0]);
    velum_port_close(o->ends[1]);
    probe *mine = o->other;
    probe_open(o, self->loop, VELUM_READABLE);
    o->other = mine;
    probe_poke(o);
    CHECK_EQ(velum_watch_add(self->loop, &o->watch), VELUM_OK);
    self->act = NULL;
}

static void test_replaced_while_serving(void) {
    velum_loop *loop = start(2, 0);
    probe a, b;
    for (int round = 0; round < 2; round++) {
        probe_open(&a, loop, VELUM_READABLE);
        probe_open(&b, loop, VELUM_READABLE);
        a.act = b.act = replace_other;
        a.other = &b;
        b.other = &a;
        CHECK_EQ(velum_watch_add(loop, &a.watch), VELUM_OK);
        CHECK_EQ(velum_watch_add(loop, &b.watch), VELUM_OK);
        probe_poke(&a);
        probe_poke(&b);
        /* The newcomer took the place of a watch that was ready, and must not inherit that. */
        CHECK_EQ(velum_loop_tick(loop, 0), 1);
        CHECK_EQ(a.served + b.served, 1);
        CHECK_EQ(velum_loop_tick(loop, 0), 2);
        probe_close(&a);
        probe_close(&b);
    }
    finish(loop);
}

static void remove_self(probe *self) {
    velum_watch_remove(self->loop, &self->watch);
}

static void mute_other(probe *self) {
    velum_watch_want(self->loop, &self->other->watch, 0);
}

static void tick_again(probe *self) {
    CHECK_EQ(velum_loop_tick(self->loop, 0), VELUM_E_ARGUMENT);
}

static void test_changes_while_serving(void) {
    velum_loop *loop = start(8, 0);
    probe p[3];
    for (int i = 0; i < 3; i++) {
        probe_open(&p[i], loop, VELUM_READABLE);
        CHECK_EQ(velum_watch_add(loop, &p[i].watch), VELUM_OK);
        probe_poke(&p[i]);
    }
    p[0].act = remove_self;
    p[1].act = mute_other;
    p[1].other = &p[2];
    CHECK_EQ(velum_loop_tick(loop, 0), 2);
    CHECK_EQ(p[2].served, 0);
    p[1].act = tick_again;
    CHECK_EQ(velum_loop_tick(loop, 0), 1);
    for (int i = 0; i < 3; i++) {
        probe_close(&p[i]);
    }
    finish(loop);
}

/* ---- fairness: who was served first in a tick ---- */

static int turn_counter;

static void note_turn(probe *self) {
    self->what = (uint8_t)turn_counter++;
}

static void test_rotating_start(void) {
    enum { N = 5 };
    velum_loop *loop = start(N, 0);
    probe p[N];
    int first[N] = {0};
    for (int i = 0; i < N; i++) {
        probe_open(&p[i], loop, VELUM_WRITABLE);
        p[i].act = note_turn;
        CHECK_EQ(velum_watch_add(loop, &p[i].watch), VELUM_OK);
    }
    for (int tick = 0; tick < 2 * N; tick++) {
        turn_counter = 0;
        CHECK_EQ(velum_loop_tick(loop, 0), N);
        for (int i = 0; i < N; i++) {
            first[i] += p[i].what == 0;
        }
    }
    for (int i = 0; i < N; i++) {
        CHECK_EQ(p[i].served, 2 * N);
        CHECK_EQ(first[i], 2);
        probe_close(&p[i]);
    }
    finish(loop);
}

/* ---- timers ---- */

typedef struct bell {
    velum_timer timer;
    velum_loop *loop;
    int fired;
    int64_t fired_us;
    int64_t again_us; /* restarts itself at this moment; 0: does not */
    struct bell *stops;
} bell;

static int64_t last_deadline_us;

static void bell_fired(velum_timer *t, int64_t now_us) {
    bell *a = t->owner;
    CHECK_EQ(t->slot, -1);
    CHECK(t->deadline_us <= now_us);
    CHECK_EQ(now_us, velum_loop_now_us(a->loop));
    a->fired++;
    a->fired_us = now_us;
    last_deadline_us = t->deadline_us;
    if (a->stops != NULL) {
        velum_timer_stop(a->loop, &a->stops->timer);
    }
    if (a->again_us != 0) {
        CHECK_EQ(velum_timer_start(a->loop, t, a->again_us), VELUM_OK);
    }
}

static void bell_init(bell *a, velum_loop *loop) {
    memset(a, 0, sizeof *a);
    a->timer = (velum_timer)VELUM_TIMER_INIT;
    a->timer.fired = bell_fired;
    a->timer.owner = a;
    a->loop = loop;
}

static void test_timer_times(void) {
    velum_loop *loop = start(1, 2);
    bell a, b, c;
    bell_init(&a, loop);
    bell_init(&b, loop);
    bell_init(&c, loop);
    int64_t t0 = velum_loop_now_us(loop);
    CHECK_EQ(velum_timer_start(loop, &a.timer, t0 + 5000), VELUM_OK);
    CHECK_EQ(velum_timer_start(loop, &b.timer, t0 + 3000), VELUM_OK);
    CHECK_EQ(velum_timer_start(loop, &c.timer, t0), VELUM_E_FULL);
    CHECK_EQ(c.timer.slot, -1);
    CHECK_EQ(velum_timer_start(loop, &a.timer, t0 + 4000), VELUM_OK); /* no room needed */
    CHECK_EQ(velum_loop_tick(loop, 0), 0);
    CHECK_EQ(velum_port_now_us(), t0); /* did not sleep */
    CHECK_EQ(velum_loop_tick(loop, 1000), 0);
    CHECK_EQ(velum_loop_now_us(loop), t0 + 1000); /* the caller's limit came first */
    CHECK_EQ(velum_loop_tick(loop, 1000000), 1);
    CHECK_EQ(b.fired_us, t0 + 3000);
    CHECK_EQ(velum_loop_tick(loop, -1), 1);
    CHECK_EQ(a.fired_us, t0 + 4000);
    CHECK_EQ(velum_loop_tick(loop, -1), VELUM_E_SYSTEM); /* nothing would ever happen */
    velum_timer_stop(loop, &a.timer);
    CHECK_EQ(a.fired + b.fired, 2);
    finish(loop);
}

static void test_timer_in_the_past(void) {
    velum_loop *loop = start(1, 2);
    bell a, b;
    bell_init(&a, loop);
    bell_init(&b, loop);
    a.again_us = 1; /* long gone: must not fire again in the same tick */
    CHECK_EQ(velum_timer_start(loop, &a.timer, 0), VELUM_OK);
    CHECK_EQ(velum_timer_start(loop, &b.timer, velum_loop_now_us(loop)), VELUM_OK);
    CHECK_EQ(velum_loop_tick(loop, -1), 2);
    CHECK_EQ(b.fired, 1);
    int64_t before_us = velum_port_now_us();
    CHECK_EQ(velum_loop_tick(loop, -1), 1);
    CHECK(velum_port_now_us() - before_us <= 1);
    a.again_us = 0;
    a.stops = &b;
    CHECK_EQ(velum_timer_start(loop, &b.timer, velum_loop_now_us(loop) + 1), VELUM_OK);
    velum_test_advance(1000);
    CHECK_EQ(velum_loop_tick(loop, 0), 1); /* the first due timer stopped the second */
    CHECK_EQ(a.fired + b.fired, 4);
    finish(loop);
}

/* Starts, moves and stops timers at random beside a plain list, and compares who is due. */
static void test_timer_heap(uint64_t seed) {
    enum { N = 64, STEPS = 3000 };
    velum_loop *loop = NULL;
    velum_test_reset(seed);
    CHECK_EQ(velum_loop_open(&loop, 1, N), VELUM_OK);
    bell a[N];
    int expected[N] = {0};
    for (int i = 0; i < N; i++) {
        bell_init(&a[i], loop);
    }
    int failed_before = check_failed_count;
    for (int step = 0; step < STEPS; step++) {
        uint32_t r;
        velum_port_random(&r, sizeof r);
        bell *x = &a[r % N];
        if (r >> 28 < 3) {
            velum_timer_stop(loop, &x->timer);
        } else {
            int64_t deadline_us = velum_port_now_us() + (int64_t)(r >> 8) % 1000;
            CHECK_EQ(velum_timer_start(loop, &x->timer, deadline_us), VELUM_OK);
        }
        if (step % 4 != 0) {
            continue;
        }
        velum_test_advance((int64_t)(r >> 8) % 300);
        for (int i = 0; i < N; i++) {
            expected[i] += a[i].timer.slot >= 0 && a[i].timer.deadline_us <= velum_port_now_us();
        }
        CHECK(velum_loop_tick(loop, 0) >= 0);
        for (int i = 0; i < N; i++) {
            CHECK_EQ(a[i].fired, expected[i]);
        }
    }
    if (check_failed_count != failed_before) {
        printf("timer heap: seed %llu\n", (unsigned long long)seed);
    }
    finish(loop);
}

static void test_timer_order(void) {
    enum { N = 100 };
    velum_loop *loop = start(1, N);
    bell a[N];
    int64_t t0 = velum_loop_now_us(loop);
    for (int i = 0; i < N; i++) {
        bell_init(&a[i], loop);
        CHECK_EQ(velum_timer_start(loop, &a[i].timer, t0 + (i * 37) % N), VELUM_OK);
    }
    for (int i = 0; i < N; i++) {
        CHECK_EQ(velum_loop_tick(loop, -1), 1);
        CHECK_EQ(last_deadline_us, t0 + i);
    }
    finish(loop);
}

/* ---- both ---- */

static void poke_later(void *user) {
    probe_poke(user);
}

static bell *handshake;

static void in_time(probe *self) {
    velum_timer_stop(self->loop, &handshake->timer);
    probe_drain(self);
}

static void test_handle_ends_sleep(void) {
    velum_loop *loop = start(2, 2);
    probe p;
    bell a;
    probe_open(&p, loop, VELUM_READABLE);
    bell_init(&a, loop);
    CHECK_EQ(velum_watch_add(loop, &p.watch), VELUM_OK);
    int64_t t0 = velum_port_now_us();
    velum_test_at(t0 + 700, poke_later, &p);
    CHECK_EQ(velum_timer_start(loop, &a.timer, t0 + 1000), VELUM_OK);
    CHECK_EQ(velum_loop_tick(loop, -1), 1);
    CHECK_EQ(velum_loop_now_us(loop), t0 + 700);
    CHECK_EQ(a.fired, 0);
    /* What arrives in the very tick of its deadline is in time. */
    p.act = in_time;
    handshake = &a;
    velum_test_advance(1000);
    CHECK_EQ(velum_loop_tick(loop, 0), 1);
    CHECK_EQ(a.fired, 0);
    probe_close(&p);
    finish(loop);
}

static void wake_later(void *user) {
    velum_port_wake(*(velum_fd *)user);
}

static void wake_ready(velum_watch *w, uint8_t what) {
    CHECK_EQ(what, VELUM_READABLE);
    velum_port_wake_clear(w->fd);
}

static void test_wake(void) {
    velum_loop *loop = start(1, 0);
    velum_fd reader, writer;
    CHECK_EQ(velum_port_wake_open(&reader, &writer), VELUM_OK);
    velum_watch w = VELUM_WATCH_INIT;
    w.fd = reader;
    w.want = VELUM_READABLE;
    w.ready = wake_ready;
    CHECK_EQ(velum_watch_add(loop, &w), VELUM_OK);
    velum_test_at(velum_port_now_us() + 10, wake_later, &writer);
    CHECK_EQ(velum_loop_tick(loop, -1), 1);
    CHECK_EQ(velum_loop_tick(loop, 0), 0);
    velum_port_wake(writer);
    velum_port_wake(writer);
    CHECK_EQ(velum_loop_tick(loop, 0), 1);
    CHECK_EQ(velum_loop_tick(loop, 0), 0);
    velum_port_close(writer);
    velum_port_close(reader);
    finish(loop);
}

/* ---- a door: what others do while the loop sleeps ---- */

typedef struct {
    velum_loop *loop;
    probe first, second;
    bell bell;
    int opened, closed;
} visit;

static void door_opens(void *owner) {
    visit *v = owner;
    CHECK_EQ(v->opened++, v->closed);
}

static void door_closes(void *owner) {
    visit *v = owner;
    CHECK_EQ(++v->closed, v->opened);
}

/* A visitor takes one watch away and brings another, whose handle is ready. */
static void visits(void *user) {
    visit *v = user;
    CHECK_EQ(v->opened, v->closed + 1);
    CHECK(!velum_loop_changed(v->loop));
    velum_watch_want(v->loop, &v->first.watch, VELUM_READABLE);
    CHECK(!velum_loop_changed(v->loop));
    CHECK_EQ(velum_timer_start(v->loop, &v->bell.timer, INT64_MAX), VELUM_OK);
    CHECK(velum_loop_changed(v->loop));
    probe_poke(&v->first);
    probe_poke(&v->second);
    velum_watch_remove(v->loop, &v->first.watch);
    CHECK_EQ(velum_watch_add(v->loop, &v->second.watch), VELUM_OK);
}

static void test_door(void) {
    visit v = {.loop = start(3, 1)};
    velum_loop_door door = {&v, door_opens, door_closes};
    CHECK_EQ(velum_loop_set_door(v.loop, &door), VELUM_OK);
    probe_open(&v.first, v.loop, VELUM_READABLE);
    probe_open(&v.second, v.loop, VELUM_READABLE);
    bell_init(&v.bell, v.loop);
    CHECK_EQ(velum_watch_add(v.loop, &v.first.watch), VELUM_OK);
    CHECK_EQ(velum_loop_tick(v.loop, 0), 0);
    CHECK_EQ(v.opened, 0); /* it has not slept */
    velum_test_at(velum_port_now_us() + 700, visits, &v);
    CHECK_EQ(velum_loop_tick(v.loop, -1), 1);
    CHECK(v.opened == 1 && v.closed == 1);
    CHECK(v.first.served == 0 && v.second.served == 1);
    CHECK_EQ(velum_loop_tick(v.loop, 0), 1);
    CHECK(v.opened == 1 && v.second.served == 2);
    probe_close(&v.first);
    probe_close(&v.second);
    finish(v.loop);
}

int main(void) {
    test_serves_what_is_wanted();
    test_table_full();
    test_replaced_while_serving();
    test_changes_while_serving();
    test_rotating_start();
    test_timer_times();
    test_timer_in_the_past();
    for (uint64_t seed = 1; seed <= 5; seed++) {
        test_timer_heap(seed);
    }
    test_timer_order();
    test_handle_ends_sleep();
    test_wake();
    test_door();
    return check_report("loop");
}
