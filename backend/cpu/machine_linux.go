package cpu

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processor reads the name from /proc/cpuinfo and the caches of the first processor from /sys.
func processor() (name string, l1, l2, l3 int64) {
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	caches, _ := filepath.Glob("/sys/devices/system/cpu/cpu0/cache/index*")
	for _, cache := range caches {
		size := parseKilo(text(cache + "/size"))
		switch text(cache+"/level") + text(cache+"/type") {
		case "1Data", "1Unified":
			l1 = size
		case "2Unified":
			l2 = size
		case "3Unified":
			l3 = size
		}
	}
	return name, l1, l2, l3
}

// parseKilo reads sizes as "32K" and "4M"; 0 for anything else.
func parseKilo(s string) int64 {
	unit := int64(1)
	switch {
	case strings.HasSuffix(s, "K"):
		unit = 1 << 10
	case strings.HasSuffix(s, "M"):
		unit = 1 << 20
	}
	n, err := strconv.ParseInt(strings.TrimRight(s, "KM"), 10, 64)
	if err != nil {
		return 0
	}
	return n * unit
}

// text is a small file's content without space around it, "" where it cannot be read.
func text(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// physicalCores counts the sets of sibling threads among the processors that this process may run on.
func physicalCores() int {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0
	}
	cores := map[string]bool{}
	for i := range len(allowed) * 64 {
		if !allowed.IsSet(i) {
			continue
		}
		siblings := text(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", i))
		if siblings == "" {
			return 0
		}
		cores[siblings] = true
	}
	return len(cores)
}

// memory reads /proc/meminfo and the limits of this process's control groups (version 2, else 1).
func memory() (total, available int64) {
	info := fields("/proc/meminfo")
	total, available = info["MemTotal:"]<<10, info["MemAvailable:"]<<10
	for _, group := range groups() {
		limit, used := number(group+"/memory.max"), number(group+"/memory.current")
		cache := fields(group + "/memory.stat")["inactive_file"]
		if limit < 0 {
			limit, used = number(group+"/memory.limit_in_bytes"), number(group+"/memory.usage_in_bytes")
			cache = fields(group + "/memory.stat")["total_inactive_file"]
		}
		if limit < 0 || used < 0 {
			continue
		}
		total = min(total, limit)
		available = min(available, max(limit-used+cache, 0)) // files that are only cached can be dropped
	}
	return total, available
}

// groups are the folders of this process's control groups and all above them, for only the lowest limit counts.
func groups() (folders []string) {
	for line := range strings.Lines(text("/proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || (parts[1] != "" && parts[1] != "memory") {
			continue
		}
		root := "/sys/fs/cgroup"
		if parts[1] == "memory" {
			root += "/memory"
		}
		for path := filepath.Clean(parts[2]); ; path = filepath.Dir(path) {
			folders = append(folders, filepath.Join(root, path))
			if path == "/" || path == "." {
				break
			}
		}
	}
	return folders
}

// number is the only number in a file; -1 where there is none, as in the "max" of a group without limit.
func number(path string) int64 {
	n, err := strconv.ParseUint(text(path), 10, 64)
	if err != nil {
		return -1
	}
	return int64(min(n, math.MaxInt64))
}

// fields reads lines of a name and a number.
func fields(path string) map[string]int64 {
	found := map[string]int64{}
	for line := range strings.Lines(text(path)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(words[1], 10, 64); err == nil {
			found[words[0]] = n
		}
	}
	return found
}
