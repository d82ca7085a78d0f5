#define LEVEL 0
#define BITS 32
#include "instance.h"
