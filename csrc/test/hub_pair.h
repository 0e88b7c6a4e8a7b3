/* hub_pair.h: two hubs in the test port's world, linked to each other. */
#ifndef VELUM_TEST_HUB_PAIR_H
#define VELUM_TEST_HUB_PAIR_H

#include "hub_world.h"

static velum_hub *server, *client;
static velum_handle at_server, at_client;

static inline void open_pair(void) {
    server = open_world(16);
    client = open_hub(8, 16);
    CHECK_EQ(velum_hub_dial(client, &hub_addr, 0, &at_client), 0);
    at_server = 0;
    for (int rounds = 0; rounds < 1000; rounds++) {
        if (poll_for(server, 0) == 1) {
            at_server = events[0].link;
            CHECK_EQ(velum_hub_accept(server, at_server), 0);
        }
        if (poll_for(client, 0) == 1) return;
    }
    CHECK(event_count > 0); /* the client was never accepted */
}

static inline void close_pair(void) {
    velum_hub_close(server);
    velum_hub_close(client);
    end_world();
}

#endif
