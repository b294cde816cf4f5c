/* Load for bench/relay.py: sends RTP into a relay and counts what comes out of it, with how long it took.
 *
 * stdin: one socket per line, "local_host local_port relay_port relay_host", then "run" lines:
 *   run blast SECONDS 0        as fast as possible, one packet per socket in turn
 *   run paced SECONDS PPS      evenly spaced, the spaces filled with waiting for what comes back
 * stdout: "ready" once all sockets stand, then per run "sent in_time received seconds p50_us p99_us".
 * A packet is G.711 of 20 ms; its payload carries the time at which it was sent. IPv4 only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SOCKETS_MAX = 4096, PACKET = 172, HEADER = 12, EVENTS = 256, BINS = 200000 };

static int sockets[SOCKETS_MAX], count, poller;
static uint16_t sequence[SOCKETS_MAX];
static uint32_t latency[BINS]; /* in microseconds; the last bin holds all above */
static uint64_t sent, received;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void add(const char *local, int local_port, int relay_port, const char *relay) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(local_port)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(relay_port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (count == SOCKETS_MAX || inet_pton(AF_INET, local, &from.sin_addr) != 1 ||
        inet_pton(AF_INET, relay, &to.sin_addr) != 1) {
        fprintf(stderr, "bad socket line\n");
        exit(1);
    }
    if (fd < 0 || bind(fd, (void *)&from, sizeof from) || connect(fd, (void *)&to, sizeof to)) die("socket");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    sockets[count++] = fd;
}

static void send_one(int index) {
    unsigned char packet[PACKET];
    memset(packet, 0xff, sizeof packet);
    uint16_t number = sequence[index]++;
    uint32_t timestamp = number * 160u;
    memcpy(packet, (unsigned char[]){0x80, 0, number >> 8, number}, 4);
    memcpy(packet + 4, (unsigned char[]){timestamp >> 24, timestamp >> 16, timestamp >> 8, timestamp}, 4);
    memcpy(packet + 8, (unsigned char[]){0, 0, index >> 8, index}, 4);
    uint64_t at = now_ns();
    memcpy(packet + HEADER, &at, sizeof at);
    if (send(sockets[index], packet, sizeof packet, 0) == sizeof packet) sent++;
}

static void take(void) {
    struct epoll_event events[EVENTS];
    unsigned char packet[2048];
    int ready = epoll_wait(poller, events, EVENTS, 0);
    for (int i = 0; i < ready; i++) {
        while (recv(events[i].data.fd, packet, sizeof packet, 0) == PACKET) {
            uint64_t at, bin;
            memcpy(&at, packet + HEADER, sizeof at);
            bin = (now_ns() - at) / 1000;
            latency[bin < BINS ? bin : BINS - 1]++;
            received++;
        }
    }
}

static unsigned quantile(double share) {
    uint64_t seen = 0, wanted = (uint64_t)(received * share);
    for (unsigned bin = 0; bin < BINS; bin++)
        if ((seen += latency[bin]) > wanted) return bin;
    return BINS;
}

static void run(int blast, double seconds, double pps) {
    memset(latency, 0, sizeof latency);
    sent = received = 0;
    uint64_t start = now_ns(), stop = start + (uint64_t)(seconds * 1e9), next = start;
    uint64_t gap = blast ? 0 : (uint64_t)(1e9 / pps);
    for (int index = 0; now_ns() < stop;) {
        if (blast || now_ns() >= next) {
            send_one(index);
            next += gap;
            index = (index + 1) % count;
            if (blast && index % 16) continue;
        }
        take();
    }
    uint64_t end = now_ns();
    double elapsed = (end - start) / 1e9;
    uint64_t counted = received;
    for (int i = 0; i < 2000; i++) { /* what is still on its way counts for the latency, not for the rate */
        take();
        usleep(50);
    }
    printf("%llu %llu %llu %.6f %u %u\n", (unsigned long long)sent, (unsigned long long)counted,
           (unsigned long long)received, elapsed, quantile(0.5), quantile(0.99));
    fflush(stdout);
}

int main(void) {
    char line[256], one[64], two[64];
    int port, relay_port;
    double seconds, pps;
    poller = epoll_create1(0);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "run %63s %lf %lf", one, &seconds, &pps) == 3)
            run(!strcmp(one, "blast"), seconds, pps);
        else if (sscanf(line, "%63s %d %d %63s", one, &port, &relay_port, two) == 4)
            add(one, port, relay_port, two);
        else if (!strncmp(line, "ready", 5)) {
            printf("ready\n");
            fflush(stdout);
        }
    }
    return 0;
}
