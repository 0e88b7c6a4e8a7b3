/* client.c: a program's own way into a mesh: an instance, from velum_open to velum_close.
 *
 * Owns: joining a hub, a leaf and a worker, and the order in which they are served. Refuses to
 * know: how the leaf gets in (leaf.c), what becomes of a task (client_tasks.c) or a scatter
 * (client_jobs.c).
 * How: one turn looks at the timers, polls the hub, hands events on, sends what waits, runs at most
 * one guest, and then calls the program back. While a guest runs, the worker polls the hub and the
 * events come through on_other as ever; the program is not called back before the guest has ended.
 */
#include "address.h"
#include "client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEACON_PORT 8888u
#define LOOPBACK_IP 0x7f000001u

/* For the measure of speed that the scheduler compares nodes by. */
#define CALIBRATE_MS 5u

/* Pages in a MiB. */
#define PAGES_PER_MIB 16u

/* A queue that is full is tried again after this time. */
#define BLOCKED_US 2000

#define INIT_TIMEOUT_MS 5000u

static char open_error[320];

/* ---- serving ---- */

/* Tells what this node knows of its load: without help of the system that is whether it runs a
 * guest, which then has the CPU, and what memory it gives to guests. */
static void refresh_health(velum *v) {
    velum_health now = v->health;
    if (v->worker != NULL) {
        now.queue = velum_worker_queue(v->worker);
        now.running = velum_worker_running(v->worker);
        now.cpu = now.running > 0 ? 100 : 0;
    }
    now.flags = v->ended != 0 ? VELUM_HEALTH_LEAVING : 0;
    if (now.queue == v->health.queue && now.running == v->health.running &&
        now.flags == v->health.flags) {
        return;
    }
    v->health = now;
    velum_leaf_health(v->leaf, &now);
    if (v->worker != NULL) velum_worker_health(v->worker, &now);
}

/* This instance is over: leaves the mesh, and ends all tasks. */
static void end(velum *v, int error) {
    if (v->ended != 0) return;
    v->ended = error;
    velum_leaf_leave(v->leaf);
    velum__errands_end(v, error);
}

static void on_frame(velum *v, const velum_event *event) {
    const velum_frame *frame = &event->u.frame;
    switch (frame->header.type) {
    case VELUM_F_RESULT:
    case VELUM_F_JOB:
        velum__errands_frame(v, event->link, frame);
        break;
    case VELUM_F_ANSWER:
        velum__nodes_answer(v, event->link, frame);
        break;
    case VELUM_F_ERROR:
        if (frame->header.correlation < VELUM__QUESTION) {
            velum__errands_frame(v, event->link, frame);
        } else {
            velum__nodes_answer(v, event->link, frame);
        }
        break;
    default:
        velum_leaf_event(v->leaf, event);
        break;
    }
}

/* Every event but the worker's, also while a guest runs. */
static void on_other(void *user, const velum_event *event) {
    velum *v = user;
    const velum_leaf_trouble *why;
    refresh_health(v);
    if (event->kind == VELUM_EV_WAKE) {
        end(v, VELUM_E_LEAVING);
        return;
    }
    if (event->kind == VELUM_EV_FRAME) {
        on_frame(v, event);
    } else {
        velum_leaf_event(v->leaf, event);
    }
    if (event->kind == VELUM_EV_CLOSED) {
        velum__errands_lost(v, event->link);
        velum__nodes_lost(v, event->link);
    }
    why = velum_leaf_why(v->leaf);
    if (why->final) end(v, why->error);
}

static void give(velum *v, const velum_event *event) {
    if (v->worker != NULL) {
        velum_worker_event(v->worker, event); /* which gives on_other what is not its own */
    } else {
        on_other(v, event);
    }
}

static void on_dropped(void *user, const velum_event *closed) {
    give(user, closed);
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* One turn of the loop. */
static void turn(velum *v, int64_t until_us) {
    int64_t next = earlier(until_us, velum_leaf_tick(v->leaf)), sleep_us;
    int n;
    next = earlier(next, velum__errands_tick(v));
    next = earlier(next, velum__nodes_tick(v));
    sleep_us = next - velum_port_now_us();
    if (sleep_us < 0 || (v->worker != NULL && velum_worker_ready(v->worker))) sleep_us = 0;
    if (v->errands.blocked) sleep_us = earlier(sleep_us, BLOCKED_US);
    n = velum_hub_poll(v->hub, sleep_us, v->events, VELUM__EVENTS);
    for (int i = 0; i < n; i++) {
        give(v, &v->events[i]);
    }
    if (n < 0) end(v, n);
    (void)velum__errands_tick(v); /* what came may have made room, or a home */
    if (v->worker != NULL && v->ended == 0) (void)velum_worker_run(v->worker);
    refresh_health(v);
}

int velum__serve(velum *v, int64_t until_us) {
    if (v->ended == 0) turn(v, until_us);
    velum__errands_tell(v);
    return v->ended;
}

int64_t velum__until(uint32_t timeout_ms) {
    return velum_port_now_us() + (int64_t)timeout_ms * 1000;
}

int velum_run(velum *v, uint32_t timeout_ms) {
    int64_t until_us = velum__until(timeout_ms);
    if (v->calling) return VELUM_E_ARGUMENT;
    while (velum__serve(v, until_us) == 0 && velum_port_now_us() < until_us) {
    }
    return v->ended;
}

void velum_stop(velum *v) {
    velum_hub_wake(v->hub);
}

/* ---- opening ---- */

/* Keeps the text for velum_open_error; gives the error back. */
static int open_failed(int error, const char *what, const char *detail) {
    (void)snprintf(open_error, sizeof open_error, "%s%s", what, detail);
    return error;
}

const char *velum_open_error(void) {
    return open_error;
}

/* Checks the program's wishes and puts them into the leaf's terms. */
static int read_config(const velum_config *config, velum_leaf_config *leaf) {
    leaf->id = config->id;
    leaf->slots = config->id != VELUM_ID_NONE ? config->workers : 0;
    leaf->listen = (velum_addr){LOOPBACK_IP, config->port};
    leaf->beacon_port = config->beacon_port != 0 ? config->beacon_port : BEACON_PORT;
    if (config->host != NULL &&
        (!velum_address_read_ip(config->host, strlen(config->host), &leaf->listen.ip) ||
         leaf->listen.ip == 0)) {
        return open_failed(VELUM_E_ARGUMENT,
                           "not an IPv4 address that others can reach: ", config->host);
    }
    if (config->join != NULL &&
        !velum_address_read(config->join, strlen(config->join), &leaf->seed)) {
        return open_failed(VELUM_E_ARGUMENT, "not an address IP:PORT: ", config->join);
    }
    if (config->workers > 1) {
        return open_failed(VELUM_E_ARGUMENT, "a program offers no worker or one", "");
    }
    return 0;
}

static int open_worker(velum *v, const velum_config *config) {
    velum_worker_config worker = {.node = config->id, .other = on_other, .user = v};
    uint32_t free_mib;
    worker.pages_max = config->pages_max != 0 ? config->pages_max : VELUM_GUEST_PAGES_MAX;
    free_mib = worker.pages_max / PAGES_PER_MIB;
    v->health.slots = 1;
    v->health.free_mib = free_mib > 0 ? free_mib : 1;
    v->health.speed = velum_worker_calibrate(CALIBRATE_MS);
    return velum_worker_open(&v->worker, v->hub, &worker);
}

static int begin(velum *v, const velum_config *config) {
    velum_hub_config hub = {.links_max = VELUM_LEAF_LINKS_MAX < VELUM_LINKS_MAX
                                             ? VELUM_LEAF_LINKS_MAX
                                             : VELUM_LINKS_MAX,
                            .module_bytes = VELUM_MODULE_CACHE_BYTES,
                            .answer_calls = true};
    velum_leaf_config leaf = {.dropped = on_dropped, .user = v};
    char address[VELUM_ADDRESS_TEXT_BYTES];
    int err = read_config(config, &leaf);
    if (err != 0) return err;
    v->health.cores = 1;
    err = velum_hub_open(&v->hub, &hub);
    if (err == 0 && leaf.slots > 0) err = open_worker(v, config);
    if (err != 0) return open_failed(err, "cannot start: ", velum_strerror(err));
    err = velum_leaf_open(&v->leaf, v->hub, &leaf);
    if (err != 0) {
        (void)snprintf(open_error, sizeof open_error, "cannot listen on %s: %s",
                       velum_address_write(leaf.listen, address), velum_strerror(err));
        return err;
    }
    velum_leaf_health(v->leaf, &v->health);
    if (v->worker != NULL) velum_worker_health(v->worker, &v->health);
    return 0;
}

static void release(velum *v) {
    velum_worker_close(v->worker);
    velum_leaf_close(v->leaf);
    velum_hub_close(v->hub);
    velum__errands_close(&v->errands);
    free(v->answer);
    free(v);
}

int velum__begin(velum **out, const velum_config *config) {
    velum *v = calloc(1, sizeof *v);
    int err;
    if (v == NULL) return open_failed(VELUM_E_NOMEM, velum_strerror(VELUM_E_NOMEM), "");
    velum__errands_open(&v->errands);
    err = begin(v, config);
    if (err != 0) {
        release(v);
        return err;
    }
    *out = v;
    return 0;
}

/* Why the way in was not found in time: the error, and the words. */
static int explain(const velum *v, uint32_t timeout_ms) {
    const velum_leaf_trouble *why = velum_leaf_why(v->leaf);
    char address[VELUM_ADDRESS_TEXT_BYTES];
    if (why->final) return open_failed(why->error, why->text, "");
    if (why->error == 0) {
        (void)snprintf(open_error, sizeof open_error, "no full node was found within %lu ms",
                       (unsigned long)timeout_ms);
        return VELUM_E_UNREACHABLE;
    }
    (void)snprintf(open_error, sizeof open_error,
                   "no full node let this one in within %lu ms; last at %s: %s",
                   (unsigned long)timeout_ms, velum_address_write(why->where, address), why->text);
    return why->error == VELUM_E_REFUSED ? VELUM_E_UNREACHABLE : why->error;
}

int velum_open(velum **out, const velum_config *config, uint32_t timeout_ms) {
    int64_t until_us = velum__until(timeout_ms);
    velum *v;
    int err = velum__begin(&v, config);
    if (err != 0) return err;
    while (velum__serve(v, until_us) == 0 && !velum_leaf_joined(v->leaf) &&
           velum_port_now_us() < until_us) {
    }
    if (v->ended == 0 && velum_leaf_joined(v->leaf)) {
        *out = v;
        return 0;
    }
    err = v->ended != 0 && !velum_leaf_why(v->leaf)->final
              ? open_failed(v->ended, velum_strerror(v->ended), "")
              : explain(v, timeout_ms);
    velum_close(v);
    return err;
}

void velum_close(velum *v) {
    if (v == NULL) return;
    end(v, VELUM_E_LEAVING);
    velum__errands_tell(v);
    release(v);
}

uint16_t velum_id(const velum *v) {
    return velum_leaf_me(v->leaf)->id;
}

velum_addr velum_address(const velum *v) {
    const velum_member *me = velum_leaf_me(v->leaf);
    return me->id != VELUM_ID_NONE ? me->addr : (velum_addr){0, 0};
}

velum_addr velum_home(const velum *v) {
    const velum_addr *home = velum_leaf_home_addr(v->leaf);
    return home != NULL ? *home : (velum_addr){0, 0};
}

/* ---- the short form ---- */

static velum *the_mesh;

int velum_init(uint16_t id, uint16_t port) {
    velum_config config = {.id = id, .port = port, .workers = 1};
    if (the_mesh != NULL) return open_failed(VELUM_E_ARGUMENT, "velum_init was called before", "");
    return velum_open(&the_mesh, &config, INIT_TIMEOUT_MS);
}

velum *velum_mesh(void) {
    return the_mesh;
}

void velum_shutdown(void) {
    velum_close(the_mesh);
    the_mesh = NULL;
}

/* ---- values ---- */

velum_value velum_i32(int32_t x) {
    return (velum_value){VELUM_I32, (uint32_t)x};
}

velum_value velum_i64(int64_t x) {
    return (velum_value){VELUM_I64, (uint64_t)x};
}

velum_value velum_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (velum_value){VELUM_F32, bits};
}

velum_value velum_f64(double x) {
    velum_value value = {VELUM_F64, 0};
    memcpy(&value.bits, &x, sizeof value.bits);
    return value;
}

/* The number whose two's complement is `bits`, without a conversion that C leaves open. */
static int64_t from_bits(uint64_t bits) {
    return bits <= (uint64_t)INT64_MAX ? (int64_t)bits : -1 - (int64_t)(UINT64_MAX - bits);
}

int64_t velum_as_i64(velum_value v) {
    if (v.type != VELUM_I32) return from_bits(v.bits);
    return from_bits(v.bits & 0x80000000u ? v.bits | ~UINT64_C(0xffffffff) : v.bits);
}

double velum_as_f64(velum_value v) {
    uint32_t single = (uint32_t)v.bits;
    double wide;
    float narrow;
    switch (v.type) {
    case VELUM_F64:
        memcpy(&wide, &v.bits, sizeof wide);
        return wide;
    case VELUM_F32:
        memcpy(&narrow, &single, sizeof narrow);
        return (double)narrow;
    default:
        return (double)velum_as_i64(v);
    }
}
