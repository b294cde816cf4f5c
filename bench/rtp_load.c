/* Load for bench/relay.py: sends RTP into a relay and counts what comes out of it, with how long it took.
 *
 * stdin: one flow per line, "local_host local_port relay_port relay_host", then "ready", then "run" lines:
 *   run window SECONDS N       as fast as they come back, N on their way at any time: the relay always has work,
 *                              and no queue overflows (rtpengine stops to read a socket whose queue did)
 *   run paced SECONDS PPS      evenly spaced
 * stdout: "ready" once all sockets stand, then per run "sent in_time received seconds p50_us p99_us".
 *
 * Flows that have the same local address share a socket, so that many packets go in one system call: a relay has a
 * system call or two for each packet, and this must be faster. A packet is G.711 of 20 ms; its payload carries the
 * time at which it was sent. When it came back is the kernel's time stamp: how soon this program looks does not
 * matter. IPv4 only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SOCKETS_MAX = 64, FLOWS_MAX = 4096, BATCH = 32, PACKET = 172, HEADER = 12, BINS = 200000 };

struct flow {
    struct sockaddr_in relay;
    uint32_t ssrc;
    uint16_t sequence;
};

struct endpoint {
    struct sockaddr_in local;
    int fd, count, next;
    struct flow flows[FLOWS_MAX];
};

static struct endpoint endpoints[SOCKETS_MAX];
static int sockets, flows;
static unsigned char out[BATCH][PACKET], in[BATCH][2048], control[BATCH][64];
static struct iovec out_vectors[BATCH], in_vectors[BATCH];
static struct mmsghdr outgoing[BATCH], incoming[BATCH];
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

static struct sockaddr_in address(const char *host, int port) {
    struct sockaddr_in result = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &result.sin_addr) != 1) die(host);
    return result;
}

static struct endpoint *endpoint(struct sockaddr_in local) {
    for (int i = 0; i < sockets; i++)
        if (!memcmp(&endpoints[i].local, &local, sizeof local)) return &endpoints[i];
    if (sockets == SOCKETS_MAX) die("too many sockets");
    struct endpoint *e = &endpoints[sockets++];
    int big = 8 << 20;
    e->local = local;
    e->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (e->fd < 0 || bind(e->fd, (void *)&local, sizeof local)) die("bind");
    if (setsockopt(e->fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int))) die("SO_TIMESTAMPNS");
    if (setsockopt(e->fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big))
        setsockopt(e->fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    return e;
}

static void add(const char *local, int local_port, int relay_port, const char *relay) {
    struct endpoint *e = endpoint(address(local, local_port));
    if (e->count == FLOWS_MAX) die("too many flows");
    e->flows[e->count++] = (struct flow){.relay = address(relay, relay_port), .ssrc = ++flows};
}

static void put(unsigned char *packet, struct flow *flow) {
    uint16_t sequence = htons(flow->sequence);
    uint32_t timestamp = htonl(flow->sequence * 160u), ssrc = htonl(flow->ssrc);
    uint64_t at = now_ns();
    flow->sequence++;
    memset(packet, 0xff, PACKET);
    packet[0] = 0x80;
    packet[1] = 0;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    memcpy(packet + HEADER, &at, sizeof at);
}

/* The next packets of a socket's flows, in turn. */
static void send_some(struct endpoint *e, int some) {
    for (int i = 0; i < some; i++) {
        struct flow *flow = &e->flows[e->next];
        e->next = (e->next + 1) % e->count;
        put(out[i], flow);
        outgoing[i].msg_hdr.msg_name = &flow->relay;
        outgoing[i].msg_hdr.msg_namelen = sizeof flow->relay;
    }
    int done = sendmmsg(e->fd, outgoing, some, 0);
    if (done > 0) sent += done;
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

static void take(struct endpoint *e) {
    int done;
    do {
        for (int i = 0; i < BATCH; i++) incoming[i].msg_hdr.msg_controllen = sizeof control[i];
        done = recvmmsg(e->fd, incoming, BATCH, 0, NULL);
        for (int i = 0; i < done; i++) {
            uint64_t at, came = arrival(&incoming[i].msg_hdr);
            if (incoming[i].msg_len != PACKET) continue;
            memcpy(&at, in[i] + HEADER, sizeof at);
            uint64_t bin = came > at ? (came - at) / 1000 : 0;
            latency[bin < BINS ? bin : BINS - 1]++;
            received++;
        }
    } while (done == BATCH);
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
    int turn = 0;
    for (uint64_t now = start; now < stop; now = now_ns()) {
        struct endpoint *e = &endpoints[turn];
        turn = (turn + 1) % sockets;
        if (window) {
            uint64_t away = sent - received - lost;
            if (away < most) send_some(e, most - away < BATCH ? (int)(most - away) : BATCH);
            if (received != before)
                before = received, progress = now;
            else if (now - progress > 20000000) /* what has not come in 20 ms will not */
                lost = sent - received, progress = now;
        } else if (now >= next) {
            send_some(e, 1);
            next += gap;
        }
        take(e);
    }
    uint64_t end = now_ns();
    uint64_t counted = received;
    for (int i = 0; i < 100; i++) { /* what is still on its way counts for the latency, not for the rate */
        for (int j = 0; j < sockets; j++) take(&endpoints[j]);
        usleep(1000);
    }
    printf("%llu %llu %llu %.6f %u %u\n", (unsigned long long)sent, (unsigned long long)counted,
           (unsigned long long)received, (end - start) / 1e9, quantile(0.5), quantile(0.99));
    fflush(stdout);
}

int main(void) {
    char line[256], one[64], two[64];
    int port, relay_port;
    double seconds, value;
    for (int i = 0; i < BATCH; i++) {
        out_vectors[i] = (struct iovec){out[i], PACKET};
        in_vectors[i] = (struct iovec){in[i], sizeof in[i]};
        outgoing[i].msg_hdr = (struct msghdr){.msg_iov = &out_vectors[i], .msg_iovlen = 1};
        incoming[i].msg_hdr = (struct msghdr){.msg_iov = &in_vectors[i], .msg_iovlen = 1, .msg_control = control[i]};
    }
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
