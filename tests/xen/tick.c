/*
 * Asks the real-time clock for an interrupt every second, for as long as it runs.
 *
 * QEMU 7.2 can lose an interrupt. One way is known: its SVM code changes the word of pending requests at each entry to
 * and exit from a guest without the lock under which its timers set theirs. A local APIC's timer that is lost this way
 * is the last that this processor hears of, until some other interrupt comes; a machine in which everything waits for
 * time then waits for ever. This is that other interrupt.
 */
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void) {
        int clock = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
        if (clock < 0 || ioctl(clock, RTC_UIE_ON, 0) < 0) {
                perror("tick: /dev/rtc0");
                return 1;
        }
        unsigned long data;
        while (read(clock, &data, sizeof(data)) == sizeof(data))
                ;
        perror("tick: no interrupts of the clock any more");
        return 1;
}
