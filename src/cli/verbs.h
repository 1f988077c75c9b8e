/* Every verb; the table in main.c says what each takes. */
#pragma once

struct Cli;

int verb_network_create(struct Cli *cli, int argc, char **argv);
int verb_network_list(struct Cli *cli, int argc, char **argv);
int verb_network_show(struct Cli *cli, int argc, char **argv);
int verb_network_destroy(struct Cli *cli, int argc, char **argv);
int verb_network_shell(struct Cli *cli, int argc, char **argv);
int verb_network_exec(struct Cli *cli, int argc, char **argv);
int verb_network_capture(struct Cli *cli, int argc, char **argv);

int verb_domain_create(struct Cli *cli, int argc, char **argv);
int verb_domain_list(struct Cli *cli, int argc, char **argv);
int verb_domain_show(struct Cli *cli, int argc, char **argv);
int verb_domain_destroy(struct Cli *cli, int argc, char **argv);
int verb_domain_console(struct Cli *cli, int argc, char **argv);
int verb_domain_log(struct Cli *cli, int argc, char **argv);
int verb_domain_screenshot(struct Cli *cli, int argc, char **argv);
int verb_domain_vnc(struct Cli *cli, int argc, char **argv);
int verb_domain_pause(struct Cli *cli, int argc, char **argv);
int verb_domain_resume(struct Cli *cli, int argc, char **argv);
int verb_domain_reset(struct Cli *cli, int argc, char **argv);
int verb_domain_shutdown(struct Cli *cli, int argc, char **argv);
int verb_domain_wait(struct Cli *cli, int argc, char **argv);
int verb_domain_agent(struct Cli *cli, int argc, char **argv);

int verb_connect(struct Cli *cli, int argc, char **argv);
int verb_listen(struct Cli *cli, int argc, char **argv);
int verb_ssh(struct Cli *cli, int argc, char **argv);
int verb_doctor(struct Cli *cli, int argc, char **argv);
