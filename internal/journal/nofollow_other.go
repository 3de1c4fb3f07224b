//go:build !unix && !windows

package journal

const noFollow = 0
