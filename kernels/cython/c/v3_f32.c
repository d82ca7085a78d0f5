#if defined(__x86_64__)
#define LEVEL 3
#define BITS 32
#include "instance.h"
#endif
