/* Load for HTTP/1.1 at a constant rate, whatever the server does: `open_loop PORT RATE SECONDS CONNECTIONS DEADLINE_MS FILE`.

   The file holds one request, head and body. Request i is due at i / RATE; it is sent then on a connection that is free,
   and its latency counts from when it was due. So a server that stalls is charged with all that it kept waiting, and not
   with one request for each connection (coordinated omission). Where all connections wait for answers, a request that
   is due is not sent, and counted as such: the number of connections bounds what may be outstanding. A second passes before
   the window, at the same rate, and a second after it for answers that are late.

   It prints one line of JSON. Latencies are of answers with status 200. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 16384
#define EVENTS 256
#define WARM_S 1.0
#define AFTER_S 1.0
#define TOGETHER_S 0.0001 /* what is due within this is sent together: the load shares its processors with the server */

typedef struct {
    int fd, busy, status, keep, chunked;
    size_t sent, have;       /* bytes of the request that are out; bytes of the answer's head that are in */
    long left;               /* bytes of the answer's body that are to come; -1: the head is not whole */
    double due_s;
    char tail[5];            /* the last bytes of an answer in chunks, which ends with "0\r\n\r\n" */
    char head[HEAD_MAX];
} Connection;

static Connection *connections;
static int *idle, idle_count, poller, port;
static char *request;
static size_t request_size;
static double window_from_s, window_to_s, deadline_s;
static float *latencies;
static long answered, in_time, refused, failed, broken, not_sent, due_count;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int in_window(double due_s) { return due_s >= window_from_s && due_s < window_to_s; }

static void watch(Connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poller, operation, c->fd, &event);
}

static void open_connection(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("cannot connect");
        exit(2);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->busy = 0;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void release(Connection *c) {
    c->busy = 0;
    idle[idle_count++] = (int)(c - connections);
}

static void reopen(Connection *c) {
    if (c->busy && in_window(c->due_s)) broken++;
    close(c->fd);
    int was_busy = c->busy;
    open_connection(c);
    if (was_busy) release(c);
}

static void push(Connection *c) {
    while (c->sent < request_size) {
        ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return; /* another error is seen when it is read */
        }
        c->sent += (size_t)n;
    }
}

static void ask(Connection *c, double due_s) {
    c->busy = 1, c->due_s = due_s, c->sent = c->have = 0, c->left = -1, c->keep = 1;
    push(c);
}

static void answer(Connection *c) {
    if (in_window(c->due_s)) {
        double latency_s = now_s() - c->due_s;
        if (c->status == 200) {
            latencies[answered++] = (float)latency_s;
            in_time += latency_s <= deadline_s;
        } else if (c->status == 429 || c->status == 503 || c->status == 504) {
            refused++;
        } else {
            failed++;
        }
    }
    if (c->keep) release(c);
    else { close(c->fd); open_connection(c); release(c); }
}

/* The end of an answer in chunks, among bytes of its body. */
static void read_chunks(Connection *c, const char *bytes, size_t size) {
    for (size_t i = size > 5 ? size - 5 : 0; i < size; i++) {
        memmove(c->tail, c->tail + 1, 4);
        c->tail[4] = bytes[i];
    }
    if (memcmp(c->tail, "0\r\n\r\n", 5) == 0) c->left = 0;
}

static void read_head(Connection *c) {
    char *end = memmem(c->head, c->have, "\r\n\r\n", 4);
    if (end == NULL) return;
    *end = 0;
    c->status = atoi(c->head + 9);
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strcasestr(c->head, "\r\nconnection: close") != NULL) c->keep = 0;
    size_t head = (size_t)(end - c->head) + 4;
    c->left = (length != NULL ? atol(length + 17) : 0) - (long)(c->have - head);
    c->chunked = length == NULL && strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
    if (c->chunked) c->left = 1, memset(c->tail, 0, 5), read_chunks(c, c->head + head, c->have - head);
}

static void take(Connection *c) {
    static char rest[1 << 16];
    for (;;) {
        int in_head = c->busy && c->left < 0;
        ssize_t n = in_head ? recv(c->fd, c->head + c->have, HEAD_MAX - 1 - c->have, 0) : recv(c->fd, rest, sizeof rest, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) { reopen(c); return; }
        if (n < 0) return;
        if (!c->busy) continue; /* nobody asked */
        if (in_head) { c->have += (size_t)n; c->head[c->have] = 0; read_head(c); }
        else if (c->chunked) read_chunks(c, rest, (size_t)n);
        else c->left -= n;
        if (c->left == 0) { answer(c); return; }
    }
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile_ms(double q) { return answered ? 1e3 * latencies[(long)(q * (double)(answered - 1))] : 0.0; }

int main(int count, char **arguments) {
    if (count != 7) { fprintf(stderr, "PORT RATE SECONDS CONNECTIONS DEADLINE_MS FILE\n"); return 2; }
    port = atoi(arguments[1]);
    double rate = atof(arguments[2]), seconds = atof(arguments[3]);
    int connection_count = atoi(arguments[4]);
    deadline_s = atof(arguments[5]) / 1e3;
    FILE *file = fopen(arguments[6], "rb");
    struct stat status;
    if (file == NULL || fstat(fileno(file), &status) != 0) { perror(arguments[6]); return 2; }
    request_size = (size_t)status.st_size;
    request = malloc(request_size);
    if (fread(request, 1, request_size, file) != request_size) { perror(arguments[6]); return 2; }
    connections = calloc((size_t)connection_count, sizeof *connections);
    idle = calloc((size_t)connection_count, sizeof *idle);
    latencies = calloc((size_t)(rate * seconds) + 2, sizeof *latencies);
    poller = epoll_create1(0);
    for (int i = 0; i < connection_count; i++) { open_connection(&connections[i]); idle[idle_count++] = connection_count - 1 - i; }

    double began_s = now_s(), end_s = began_s + WARM_S + seconds + AFTER_S;
    window_from_s = began_s + WARM_S, window_to_s = window_from_s + seconds;
    long next = 0;
    for (;;) {
        double now = now_s();
        double due_s = began_s + (double)next / rate;
        while (due_s <= now && due_s < window_to_s) {
            due_count += in_window(due_s);
            if (idle_count > 0) ask(&connections[idle[--idle_count]], due_s);
            else not_sent += in_window(due_s);
            due_s = began_s + (double)++next / rate;
        }
        if (now >= end_s || (due_s >= window_to_s && idle_count == connection_count)) break;
        struct epoll_event events[EVENTS];
        double wait_s = (due_s < window_to_s ? due_s : end_s) - now;
        wait_s = wait_s > 0.001 ? 0.001 : wait_s < TOGETHER_S ? TOGETHER_S : wait_s;
        struct timespec wait = {.tv_nsec = (long)(wait_s * 1e9)};
        int found = epoll_pwait2(poller, events, EVENTS, &wait, NULL);
        for (int i = 0; i < found; i++) {
            Connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) { watch(c, EPOLL_CTL_MOD, EPOLLIN); push(c); }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take(c);
        }
    }
    qsort(latencies, (size_t)answered, sizeof *latencies, ascending);
    long unanswered = due_count - answered - refused - failed - broken - not_sent;
    printf("{\"due\": %ld, \"answered\": %ld, \"in_time\": %ld, \"refused\": %ld, \"failed\": %ld, \"broken\": %ld, "
           "\"not_sent\": %ld, \"unanswered\": %ld, \"latency_ms_p50\": %.4f, \"latency_ms_p99\": %.4f}\n",
           due_count, answered, in_time, refused, failed, broken, not_sent, unanswered, quantile_ms(0.50), quantile_ms(0.99));
    return 0;
}
