//go:build !linux

package cpu

func processor() (name string, l1, l2, l3 int64) { return "", 0, 0, 0 }

func physicalCores() int { return 0 }

func memory() (total, available int64) { return 0, 0 }
