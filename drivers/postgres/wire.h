#ifndef PIER_DRIVERS_POSTGRES_WIRE_H
#define PIER_DRIVERS_POSTGRES_WIRE_H
/*
 * Numbers in the byte order of the network.
 */
#include <stdint.h>

static inline void pier__put16(char *to, uint16_t number)
{
    to[0] = (char)(number >> 8);
    to[1] = (char)number;
}

static inline void pier__put32(char *to, uint32_t number)
{
    pier__put16(to, (uint16_t)(number >> 16));
    pier__put16(to + 2, (uint16_t)number);
}

static inline void pier__put64(char *to, uint64_t number)
{
    pier__put32(to, (uint32_t)(number >> 32));
    pier__put32(to + 4, (uint32_t)number);
}

static inline uint16_t pier__get16(const char *from)
{
    const unsigned char *byte = (const unsigned char *)from;
    return (uint16_t)(byte[0] << 8 | byte[1]);
}

static inline uint32_t pier__get32(const char *from)
{
    return (uint32_t)pier__get16(from) << 16 | pier__get16(from + 2);
}

static inline uint64_t pier__get64(const char *from)
{
    return (uint64_t)pier__get32(from) << 32 | pier__get32(from + 4);
}

#endif
