/* Scope cleanup. A destructor named here takes NULL and returns NULL. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

#define DEFINE_CLEANUP(type, function)           \
        static inline void function##_p(type *p) \
        {                                        \
                if (*p)                          \
                        function(*p);            \
        }                                        \
        struct cleanup_semicolon_

static inline void cleanup_free(void *p)
{
        free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
        if (*fd >= 0)
                close(*fd);
}

#define _cleanup_free_  _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* Hands ownership on: yields the pointer and leaves NULL behind. */
#define TAKE_PTR(p)                                   \
        ({                                            \
                __typeof__(p) *_pp = &(p), _p = *_pp; \
                *_pp = NULL;                          \
                _p;                                   \
        })

#define TAKE_FD(fd)                          \
        ({                                   \
                int *_fp = &(fd), _f = *_fp; \
                *_fp = -1;                   \
                _f;                          \
        })

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))
