/*
 * Preloaded into SIPp: all its raw sockets become one.
 *
 * SIPp plays each capture through a raw UDP socket of its own. The kernel offers every UDP packet that arrives on
 * the loopback interface to every raw UDP socket, in the context of the packet's sender: with 500 streams each
 * packet that the gate sends would cost it 500 looks, and a copy each, for nothing. Every raw socket that SIPp asks
 * for is therefore a duplicate of one, whose filter takes nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int the_one = -1;

int socket(int domain, int type, int protocol)
{
  int (*libc_socket)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
  int copy;

  if (domain != AF_INET || (type & 0xf) != SOCK_RAW || protocol != IPPROTO_UDP)
    return libc_socket(domain, type, protocol);
  pthread_mutex_lock(&lock);
  if (the_one < 0) {
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog filter = {1, &nothing};

    the_one = libc_socket(domain, type, protocol);
    setsockopt(the_one, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
  }
  copy = fcntl(the_one, F_DUPFD_CLOEXEC, 3);
  pthread_mutex_unlock(&lock);
  return copy;
}
