/* Load for bench/relay.py: sends RTP into a relay and counts what comes out of it, with how long it took.
 *
 * stdin: one socket per line, "local_host local_port relay_port relay_host", then "run" lines:
 *   run window SECONDS N       as fast as they come back, N on their way at any time: the relay always has work,
 *                              and no queue overflows (rtpengine stops to read a socket whose queue did)
 *   run paced SECONDS PPS      evenly spaced, the spaces filled with waiting for what comes back
 * stdout: "ready" once all sockets stand, then per run "sent in_time received seconds p50_us p99_us".
 * A packet is G.711 of 20 ms; its payload carries the time at which it was sent. When it came back is the kernel's
 * time stamp: how soon this program looks does not matter. IPv4 only.
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

static uint64_t ns(struct timespec t) {
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t); /* that of SO_TIMESTAMPNS */
    return ns(t);
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
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int))) die("setsockopt");
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

static uint64_t arrival(struct msghdr *message) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            return ns(t);
        }
    return now_ns();
}

static void take(void) {
    struct epoll_event events[EVENTS];
    unsigned char packet[2048], control[64];
    int ready = epoll_wait(poller, events, EVENTS, 0);
    for (int i = 0; i < ready; i++) {
        for (;;) {
            struct iovec into = {packet, sizeof packet};
            struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = control,
                                     .msg_controllen = sizeof control};
            if (recvmsg(events[i].data.fd, &message, 0) != PACKET) break;
            uint64_t at, came = arrival(&message);
            memcpy(&at, packet + HEADER, sizeof at);
            uint64_t bin = came > at ? (came - at) / 1000 : 0;
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

static void run(int window, double seconds, double value) {
    memset(latency, 0, sizeof latency);
    sent = received = 0;
    uint64_t start = now_ns(), stop = start + (uint64_t)(seconds * 1e9), next = start, lost = 0, progress = start;
    uint64_t gap = window ? 0 : (uint64_t)(1e9 / value), most = window ? (uint64_t)value : 0, before = 0;
    int index = 0;
    for (uint64_t now = start; now < stop; now = now_ns()) {
        if (window) {
            for (int i = 0; i < 32 && sent - received - lost < most; i++, index = (index + 1) % count) send_one(index);
            if (received != before)
                before = received, progress = now;
            else if (now - progress > 20000000) /* what has not come in 20 ms will not */
                lost = sent - received, progress = now;
        } else if (now >= next) {
            send_one(index);
            next += gap;
            index = (index + 1) % count;
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
    double seconds, value;
    poller = epoll_create1(0);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "run %63s %lf %lf", one, &seconds, &value) == 3)
            run(!strcmp(one, "window"), seconds, value);
        else if (sscanf(line, "%63s %d %d %63s", one, &port, &relay_port, two) == 4)
            add(one, port, relay_port, two);
        else if (!strncmp(line, "ready", 5)) {
            printf("ready\n");
            fflush(stdout);
        }
    }
    return 0;
}
