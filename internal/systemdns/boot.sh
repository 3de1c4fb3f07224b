# The first process of the new namespaces, which becomes systemd. $1 is a cgroup of
# the machine for all of the system, $2 and $3 the user's name and uid, the rest
# directories that are to be seen inside. SCRIPT is this text.
cgroup=$1 user=$2 uid=$3
shift 3
if [ "${INSIDE_CGROUP:-}" = "" ]; then
	echo 0 >"$cgroup/cgroup.procs"
	# The cgroup namespace begins where the process that makes it is.
	INSIDE_CGROUP=1 exec unshare --cgroup sh -euc "$SCRIPT" boot "$cgroup" "$user" "$uid" "$@"
fi
mount --make-rprivate /
# The machine's /run is in the way of nobody here.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work overlay /run/root
cd /run/root
for d in run tmp home var/tmp var/log var/lib/systemd dev; do
	mkdir -p $d
	mount -t tmpfs -o mode=755,nosuid tmpfs $d
done
chmod 1777 tmp var/tmp
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
for n in null zero full random urandom tty; do
	: >dev/$n
	mount --bind /dev/$n dev/$n
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
for d; do
	mkdir -p ".$d"
	mount --bind "$d" ".$d"
	mount -o remount,ro,bind ".$d"
done

# Nothing of the machine's own starts here, and nothing that looks for hardware,
# listens to the machine's kernel or sets its clock.
rm -rf etc/systemd etc/xdg/systemd
mkdir -p etc/systemd/system etc/systemd/logind.conf.d
for u in systemd-journald-audit.socket systemd-udevd.service systemd-timesyncd.service systemd-binfmt.service \
	systemd-modules-load.service systemd-sysctl.service systemd-random-seed.service getty.target; do
	ln -s /dev/null etc/systemd/system/$u
done
cat >etc/systemd/system/test.target <<END
[Unit]
Description=What the tests need
Requires=dbus.socket systemd-logind.service systemd-user-sessions.service
After=dbus.socket systemd-logind.service systemd-user-sessions.service
END
# What systemd's authors have as the default, and Debian not.
printf '[Login]\nKillUserProcesses=yes\nUserStopDelaySec=0\n' >etc/systemd/logind.conf.d/test.conf
# A login without a password, whatever the machine's logins are like.
printf 'auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_systemd.so class=user\n' >etc/pam.d/test-login
tr -d - <proc/sys/kernel/random/uuid >etc/machine-id
echo test >etc/hostname
hostname test
echo "$user:x:$uid:$uid::/home/$user:/bin/sh" >>etc/passwd
echo "$user:x:$uid:" >>etc/group
echo "$user:*:19000:0:99999:7:::" >>etc/shadow
mkdir -m 700 "home/$user"
chown "$uid:$uid" "home/$user"

mkdir old
pivot_root . old
umount -l /old
rmdir /old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-sys_boot,-syslog,-mknod \
	/lib/systemd/systemd --unit=test.target --show-status=no --log-target=journal
