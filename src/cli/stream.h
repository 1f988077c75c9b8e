/* Addresses and words of the streams' verbs. */
#pragma once

/* "[USER@][NETWORK/]HOST"; user and network NULL where there is none. -EINVAL: a part is empty, or would be an option
 * to ssh. */
int target_parse(const char *text, char **ret_user, char **ret_network, char **ret_host);

/* A word as the shell that runs ssh's ProxyCommand shall see it: quoted, and its percent signs doubled for ssh. */
char *proxy_quote(const char *word);

/* "10.64.0.1:8080", "[fd00::1]:80" of a bound socket. */
int address_format(int socket, char **ret);
