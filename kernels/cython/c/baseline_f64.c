#define LEVEL 0
#define BITS 64
#include "instance.h"
