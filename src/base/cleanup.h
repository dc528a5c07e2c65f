/* Scope cleanup. A destructor named here takes NULL and returns NULL. */
#pragma once

#include <dirent.h>
#include <stdio.h>
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

static inline void cleanup_fclose(FILE **f)
{
        if (*f)
                fclose(*f);
}

static inline void cleanup_closedir(DIR **d)
{
        if (*d)
                closedir(*d);
}

#define _cleanup_free_     _cleanup_(cleanup_free)
#define _cleanup_close_    _cleanup_(cleanup_close)
#define _cleanup_fclose_   _cleanup_(cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

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
