#ifndef PIER_DRIVERS_POSTGRES_WIRE_H
#define PIER_DRIVERS_POSTGRES_WIRE_H
/*
 * Numbers in the byte order of the network, at any address. One instruction each, which compilers
 * do not always make of shifts.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

static inline void pier__put16(char *to, uint16_t number)
{
    number = htons(number);
    memcpy(to, &number, sizeof number);
}

static inline void pier__put32(char *to, uint32_t number)
{
    number = htonl(number);
    memcpy(to, &number, sizeof number);
}

static inline void pier__put64(char *to, uint64_t number)
{
    pier__put32(to, (uint32_t)(number >> 32));
    pier__put32(to + 4, (uint32_t)number);
}

static inline uint16_t pier__get16(const char *from)
{
    uint16_t number;
    memcpy(&number, from, sizeof number);
    return ntohs(number);
}

static inline uint32_t pier__get32(const char *from)
{
    uint32_t number;
    memcpy(&number, from, sizeof number);
    return ntohl(number);
}

static inline uint64_t pier__get64(const char *from)
{
    return (uint64_t)pier__get32(from) << 32 | pier__get32(from + 4);
}

#endif
