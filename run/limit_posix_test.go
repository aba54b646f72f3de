//go:build linux || darwin

package run

import (
	"os/signal"
	"strconv"
	"syscall"
)

const canLimitFileSize = true

// limitFileSize makes writes beyond a number of bytes fail, as a full disk does.
func limitFileSize(bytes string) {
	limit, err := strconv.ParseUint(bytes, 10, 64)
	if err != nil {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		panic(err)
	}
}
