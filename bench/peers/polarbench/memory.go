package main

import (
	"fmt"
	"os"
	"strings"
)

// resetPeakMemory lets the system count the peak of resident memory from now on. It does nothing where the system has no
// such counter.
func resetPeakMemory() error {
	if _, err := os.Stat("/proc/self/clear_refs"); err != nil {
		return nil
	}
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peakMemory returns the peak of resident memory in KiB.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib, nil
		}
	}
	return 0, fmt.Errorf("the system does not tell the peak of memory")
}
