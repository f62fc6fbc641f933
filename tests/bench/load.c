/* SPDX-License-Identifier: GPL-3.0-or-later
 * A load of MQTT-SN clients: window 1, QoS 1, one UDP socket a client; in C, so that the load is never the limit.
 *   load PORT CLIENTS SECONDS PAYLOAD TOPIC_ID_TYPE TOPIC_ID HANDSHAKE(0|1)
 * Prints: messages seconds p50_us p99_us retransmissions
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 8192
#define MAX_LATENCIES 20000000
#define RETRY_NS 1000000000LL

static struct client { int fd; uint16_t msg_id; int64_t sent_at; } fleet[MAX_CLIENTS];
static uint32_t *latencies;
static size_t count;
static long retransmissions;
static const char *payload;
static size_t payload_bytes;
static int topic_id_type, topic_id;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void publish(struct client *c, int dup)
{
    uint8_t m[256] = {(uint8_t)(7 + payload_bytes), 0x0c, (uint8_t)(0x20 | topic_id_type | (dup ? 0x80 : 0)),
                      (uint8_t)(topic_id >> 8), (uint8_t)topic_id, (uint8_t)(c->msg_id >> 8), (uint8_t)c->msg_id};
    memcpy(m + 7, payload, payload_bytes);
    c->sent_at = now_ns();
    if (send(c->fd, m, 7 + payload_bytes, 0) < 0)
        perror("send");
}

static void next_publish(struct client *c)
{
    c->msg_id = c->msg_id == 0xffff ? 1 : c->msg_id + 1;
    publish(c, 0);
}

static int open_client(int port, int number, int handshake)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
        return -1;
    if (handshake) {
        uint8_t m[64] = {0, 0x04, 0x04, 1, 0x0e, 0x10}, answer[16];
        int n = snprintf((char *)m + 6, sizeof m - 6, "load-%d", number);
        struct timeval patience = {10, 0};
        m[0] = (uint8_t)(6 + n);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (send(fd, m, m[0], 0) < 0 || recv(fd, answer, sizeof answer, 0) < 3 || answer[1] != 5 || answer[2])
            return -1;
    }
    return fd;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int on_answer(struct client *c)
{
    uint8_t a[64];
    ssize_t n = recv(c->fd, a, sizeof a, MSG_DONTWAIT);
    if (n < 7 || a[1] != 0x0d || (a[4] << 8 | a[5]) != c->msg_id)
        return 0;
    if (a[6]) {
        fprintf(stderr, "return code %d\n", a[6]);
        return -1;
    }
    if (count < MAX_LATENCIES)
        latencies[count++] = (uint32_t)((now_ns() - c->sent_at) / 1000);
    next_publish(c);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 8)
        return 2;
    int port = atoi(argv[1]), clients = atoi(argv[2]), handshake = atoi(argv[7]);
    int64_t lasts_ns = (int64_t)(atof(argv[3]) * 1e9);
    payload = argv[4];
    topic_id_type = atoi(argv[5]);
    topic_id = atoi(argv[6]);
    payload_bytes = strlen(payload);
    latencies = malloc(sizeof *latencies * MAX_LATENCIES);
    int ep = epoll_create1(0);
    for (int i = 0; i < clients; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        if ((fleet[i].fd = open_client(port, i, handshake)) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fleet[i].fd, &e)) {
            fprintf(stderr, "client %d could not connect\n", i);
            return 1;
        }
    }
    int64_t begun = now_ns(), ends = begun + lasts_ns, check = begun + RETRY_NS;
    for (int i = 0; i < clients; i++)
        next_publish(&fleet[i]);
    while (now_ns() < ends) {
        struct epoll_event e[256];
        int n = epoll_wait(ep, e, 256, 100);
        for (int i = 0; i < n; i++)
            if (on_answer(&fleet[e[i].data.u32]))
                return 1;
        if (now_ns() > check) {
            check = now_ns() + RETRY_NS;
            for (int i = 0; i < clients; i++)
                if (now_ns() - fleet[i].sent_at > RETRY_NS) {
                    retransmissions++;
                    publish(&fleet[i], 1);
                }
        }
    }
    double took = (now_ns() - begun) / 1e9;
    qsort(latencies, count, sizeof *latencies, by_value);
    printf("%zu %.6f %u %u %ld\n", count, took, count ? latencies[count / 2] : 0, count ? latencies[count * 99 / 100] : 0,
           retransmissions);
    return 0;
}
