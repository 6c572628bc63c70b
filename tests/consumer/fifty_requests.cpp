// Fifty requests, ten at a time, answered as they finish; to a server of this program's own, or to
// the one whose URL is given.
#include <pier/pier.h>

#include <arpa/inet.h>
#include <cstdio>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

static void serve(int listener)
{
    const std::string reply = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (int fd; (fd = accept(listener, nullptr, nullptr)) >= 0; close(fd)) {
        char request[1024];
        if (read(fd, request, sizeof request) > 0 && write(fd, reply.data(), reply.size()) < 0) {
            std::perror("write");
        }
    }
}

int main(int argc, char **argv)
{
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    sockaddr *generic = reinterpret_cast<sockaddr *>(&address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, generic, size) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, generic, &size) != 0) {
        std::perror("listen");
        return 1;
    }
    std::thread server(serve, listener);
    std::string base =
        argc > 1 ? argv[1] : "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));

    pier_error err = {};
    pier_runner *runner = pier_runner_open(nullptr, &err);
    pier::options<pier_http_options> http_options;
    http_options.base_url = base.c_str();
    http_options.limit = 10;
    pier_http *http = pier_http_open(runner, &http_options, &err);
    pier::options<pier_group_options> group_options;
    group_options.collect = true;
    group_options.timeout_ms = 60000;
    pier_group *group = pier_group_open(runner, &group_options, &err);
    std::vector<std::string> paths;
    for (int i = 0; i < 50; i++) {
        paths.push_back("/item/" + std::to_string(i));
    }
    for (std::string &path : paths) {
        pier_group_add(group, pier_http_get_async(http, path.c_str(), nullptr), &path);
    }

    int answered = 0;
    void *tag = nullptr;
    for (pier_future *future; (future = pier_group_next(group, &tag)) != nullptr;) {
        pier_error one = {};
        PIER_AUTO(pier_response) response = pier_http_get_finish(future, &one);
        if (!response) {
            std::printf("%s: %s\n", static_cast<std::string *>(tag)->c_str(), one.message);
        }
        answered += response ? 1 : 0;
    }
    std::printf("%d answers\n", answered);
    int status = pier_group_close(group, &err);
    if (status < 0) {
        std::fprintf(stderr, "fifty_requests: %s\n", err.message);
    }
    pier_runner_close(runner);
    shutdown(listener, SHUT_RDWR);
    server.join();
    close(listener);
    return status == 0 && answered == 50 ? 0 : 1;
}
