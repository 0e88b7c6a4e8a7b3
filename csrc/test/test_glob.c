/* test_glob.c: patterns by example, and that none of them is slow. */
#include "check.h"
#include "glob.h"

#include <string.h>

static bool matches(const char *pattern, const char *text) {
    return velum_glob((const uint8_t *)pattern, strlen(pattern), (const uint8_t *)text,
                      strlen(text));
}

static void test_examples(void) {
    static const struct {
        const char *pattern, *text;
        bool matches;
    } rows[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"*", "", true},
        {"*", "robot/7", true},
        {"robot/*", "robot/7", true},
        {"robot/*", "robot/", true},
        {"robot/*", "robot", false},
        {"*/battery", "a/b/battery", true},
        {"h?llo", "hello", true},
        {"h?llo", "hllo", false},
        {"h[ae]llo", "hallo", true},
        {"h[ae]llo", "hillo", false},
        {"h[^e]llo", "hallo", true},
        {"h[^e]llo", "hello", false},
        {"h[a-c]llo", "hbllo", true},
        {"h[c-a]llo", "hbllo", true},
        {"h[a-c]llo", "hdllo", false},
        {"h\\*llo", "h*llo", true},
        {"h\\*llo", "hello", false},
        {"[\\]]", "]", true},
        {"[\\^]", "^", true},
        {"[", "[", false},
        {"[a", "a", true},
        {"a\\", "a\\", true},
        {"**a**", "bab", true},
        {"*a*b*c*", "xaxbxcx", true},
        {"*a*b*c*", "xaxcxbx", false},
        {"a*", "ba", false},
        {"*a", "ab", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (matches(rows[i].pattern, rows[i].text) != rows[i].matches) {
            fprintf(stderr, "'%s' and '%s'\n", rows[i].pattern, rows[i].text);
            CHECK(false);
        }
    }
}

static void test_bytes(void) {
    static const uint8_t text[] = {0, 255, 10}, any[] = {'?', '?', '?'}, star[] = {0, '*', 10};
    CHECK(velum_glob(any, 3, text, 3));
    CHECK(velum_glob(star, 3, text, 3));
    CHECK(!velum_glob(star, 3, text, 2));
}

/* With a backtracking matcher this takes longer than the universe has. */
static void test_many_stars(void) {
    static uint8_t pattern[2000], text[1000];
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < sizeof pattern; i += 2) {
        pattern[i] = '*';
        pattern[i + 1] = 'a';
    }
    CHECK(velum_glob(pattern, sizeof pattern, text, sizeof text));
    pattern[sizeof pattern - 1] = 'b';
    CHECK(!velum_glob(pattern, sizeof pattern, text, sizeof text));
}

int main(void) {
    test_examples();
    test_bytes();
    test_many_stars();
    return check_report("glob");
}
