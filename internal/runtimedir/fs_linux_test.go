package runtimedir

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetworkFS: the table has every file system of linux/magic.h whose other
// side is another machine (R36), and none that is here.
func TestNetworkFS(t *testing.T) {
	for magic, want := range map[int64]string{
		unix.NFS_SUPER_MAGIC: "nfs", unix.SMB_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "cifs", unix.SMB2_SUPER_MAGIC: "smb2",
		unix.AFS_SUPER_MAGIC: "afs", unix.AFS_FS_MAGIC: "kafs", unix.CEPH_SUPER_MAGIC: "ceph", unix.CODA_SUPER_MAGIC: "coda",
		unix.V9FS_MAGIC: "9p", unix.OCFS2_SUPER_MAGIC: "ocfs2",
		unix.EXT4_SUPER_MAGIC: "", unix.TMPFS_MAGIC: "", unix.XFS_SUPER_MAGIC: "", unix.BTRFS_SUPER_MAGIC: "", unix.OVERLAYFS_SUPER_MAGIC: "",
		unix.FUSE_SUPER_MAGIC: "", unix.RAMFS_MAGIC: "", unix.F2FS_SUPER_MAGIC: "",
	} {
		if got, ok := networkKind(magic); got != want || ok != (want != "") {
			t.Errorf("%#x is %q, want %q", magic, got, want)
		}
	}
	for _, m := range &networkMagic {
		if m.magic < 0 || m.magic > 0xffffffff {
			t.Errorf("%#x is looked up as 32 bits and never found", m.magic)
		}
		if kind, _ := networkKind(int64(int32(m.magic))); kind != m.kind {
			t.Errorf("%#x, as it is in 32 signed bits, is %q, not %q", m.magic, kind, m.kind)
		}
	}
	for _, dir := range []string{"/proc", "/dev", t.TempDir()} {
		if kind, ok := networkFS(dir); ok {
			t.Errorf("%s is on %s", dir, kind)
		}
	}
	if _, ok := networkFS("/missing"); ok {
		t.Error("what is not there is on a network")
	}
}
