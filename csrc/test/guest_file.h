/* guest_file.h: reads a guest of tests/guests for a test program. */
#ifndef VELUM_TEST_GUEST_FILE_H
#define VELUM_TEST_GUEST_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    uint8_t *bytes; /* malloc'd */
    size_t size;
} guest_file;

/* Reads FOLDER/NAME.wasm; ends the program when there is no such file. */
static inline guest_file guest_read(const char *folder, const char *name) {
    char path[1024];
    guest_file guest = {NULL, 0};

    (void)snprintf(path, sizeof path, "%s/%s.wasm", folder, name);
    FILE *file = fopen(path, "rb");
    if (file != NULL && fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        guest.size = size > 0 ? (size_t)size : 0;
        guest.bytes = malloc(guest.size + 1);
        rewind(file);
    }
    if (guest.bytes == NULL || fread(guest.bytes, 1, guest.size, file) != guest.size) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    (void)fclose(file);
    return guest;
}

#endif
