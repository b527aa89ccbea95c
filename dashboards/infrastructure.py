"""infrastructure-main: is the machine well, what fills it, and which container uses it."""

from __future__ import annotations

from . import limits
from .kit import (
    BLUE,
    Board,
    Column,
    bars,
    column,
    curves,
    host,
    most,
    now,
    number,
    over_time,
    rising,
    rows,
    say,
    to_logs,
)

UID = "infrastructure-main"
HOST = 'host=~"$host"'
DISKS = 'fstype!~"tmpfs|ramfs|overlay|squashfs|nsfs|fuse.*|autofs|proc|sysfs|devtmpfs|iso9660"'
# Interfaces of containers carry the same bytes a second time.
WIRES = 'device!~"lo|veth.*|br-.*|docker.*|cali.*|flannel.*|tun.*|tap.*"'
CONTAINER = f'name!="", {HOST}'


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        say("Infrastructure overview", "Vue de l'infrastructure"),
        say(
            "The servers: processor, memory with swap, disks, network, load, and their containers.",
            "Les serveurs : processeur, mémoire et swap, disques, réseau, charge et leurs conteneurs.",
        ),
        host("node_uname_info"),
    )
    _summary(board)
    _processor(board)
    _memory(board)
    _disk(board)
    _network(board)
    _containers(board)
    return board


def _summary(board: Board) -> None:
    none = say("no node_exporter answers", "aucun node_exporter ne répond")
    board.row(say("At a glance", "En un coup d'œil"))
    panels = (
        (
            say("Processor", "Processeur"),
            say(
                "Busy share of all cores over 5 minutes; red from where HighCPU warns. The busiest host.",
                "Part occupée de tous les cœurs sur 5 minutes ; rouge au seuil de HighCPU. Le serveur le plus occupé.",
            ),
            f"max(host:cpu_utilization:ratio5m{{{HOST}}})",
            "percentunit",
            rising(limits.CPU),
        ),
        (
            say("Memory", "Mémoire"),
            say(
                "Memory that programs hold; orange from the objective, red where MemoryCritical alerts. The fullest "
                "host.",
                "Mémoire tenue par les programmes ; orange à l'objectif, rouge au seuil de MemoryCritical. Le serveur "
                "le plus plein.",
            ),
            f"max(host:memory_utilization:ratio{{{HOST}}})",
            "percentunit",
            rising(limits.MEMORY, limits.MEMORY_CRITICAL),
        ),
        (
            say("Fullest disk", "Disque le plus plein"),
            say(
                "The fullest mount; orange where DiskSpaceLow warns, red where DiskSpaceCritical alerts.",
                "Le montage le plus plein ; orange au seuil de DiskSpaceLow, rouge à celui de DiskSpaceCritical.",
            ),
            f"max(host:disk_utilization:ratio{{{HOST}}})",
            "percentunit",
            rising(limits.DISK, limits.DISK_CRITICAL),
        ),
        (
            say("Load 5 min per core", "Charge 5 min par cœur"),
            say(
                "Programs that run or wait, for each core: above 1 something waits. The host with the most.",
                "Programmes actifs ou en attente, par cœur : au-dessus de 1, on attend. Le serveur le plus chargé.",
            ),
            f"max(node_load5{{{HOST}}} / on (host, instance) count by (host, instance) "
            f'(node_cpu_seconds_total{{mode="idle", {HOST}}}))',
            "none",
            rising(1, 2),
        ),
        (
            say("Network latency p95", "Latence réseau p95"),
            say(
                "How long the platform's health checks take to connect and answer; the objective is 100 ms.",
                "Durée de connexion et de réponse des contrôles de santé ; l'objectif est 100 ms.",
            ),
            f"max(host:network_latency_seconds:p95{{{HOST}}})",
            "s",
            rising(limits.NETWORK_SECONDS),
        ),
        (
            say("Time since boot", "Depuis le démarrage"),
            say("Of the host that booted last.", "Du dernier serveur démarré."),
            f"min(node_time_seconds{{{HOST}}} - node_boot_time_seconds{{{HOST}}})",
            "s",
            BLUE,
        ),
        (
            say("Clock offset", "Écart d'horloge"),
            say(
                "How far the worst clock is off, where the host keeps time by NTP.",
                "Écart de la pire horloge, là où le serveur suit NTP.",
            ),
            f"max(abs(node_timex_offset_seconds{{{HOST}}}))",
            "s",
            rising(limits.CLOCK_SECONDS),
        ),
        (
            say("Failed units", "Unités en échec"),
            say(
                "systemd units that failed; unknown where node_exporter does not ask systemd.",
                "Unités systemd en échec ; inconnu si node_exporter n'interroge pas systemd.",
            ),
            f'sum(node_systemd_unit_state{{state="failed", {HOST}}})',
            "none",
            rising(1),
        ),
    )
    for title, description, expr, unit, steps in panels:
        text = say("node_exporter does not tell", "node_exporter ne le dit pas")
        board.add(number(title, description, now(expr), unit=unit, steps=steps, no_value=text or none), 3, 4)


def _processor(board: Board) -> None:
    board.row(say("Processor and load", "Processeur et charge"))
    board.add(
        curves(
            say("Processor by core", "Processeur par cœur"),
            say(
                "Busy share of each core; the line is where HighCPU warns of all cores together.",
                "Part occupée de chaque cœur ; la ligne est le seuil de HighCPU pour tous les cœurs ensemble.",
            ),
            over_time(
                f'1 - sum by (host, cpu) (rate(node_cpu_seconds_total{{mode=~"idle|iowait", {HOST}}}'
                "[$__rate_interval]))",
                say("{{host}} core {{cpu}}", "{{host}} cœur {{cpu}}"),
            ),
            unit="percentunit",
            at_most=1,
            steps=rising(limits.CPU),
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Processor by kind of work", "Processeur par type de travail"),
            say(
                "What the cores are busy with; steal is what the hypervisor gave to others.",
                "Ce qui occupe les cœurs ; steal est ce que l'hyperviseur a donné à d'autres.",
            ),
            over_time(
                f'avg by (host, mode) (sum by (host, mode, cpu) (rate(node_cpu_seconds_total{{mode!="idle", {HOST}}}'
                "[$__rate_interval])))",
                "{{host}} {{mode}}",
            ),
            unit="percentunit",
            stacked=True,
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Load average 1, 5, 15 minutes", "Charge moyenne 1, 5, 15 minutes"),
            say(
                "Programs that run or wait; a host with as many as cores is full.",
                "Programmes actifs ou en attente ; un serveur qui en a autant que de cœurs est plein.",
            ),
            over_time(f"node_load1{{{HOST}}}", "{{host}} 1 min"),
            over_time(f"node_load5{{{HOST}}}", "{{host}} 5 min"),
            over_time(f"node_load15{{{HOST}}}", "{{host}} 15 min"),
            over_time(
                f'count by (host) (node_cpu_seconds_total{{mode="idle", {HOST}}})',
                say("{{host}} cores", "{{host}} cœurs"),
            ),
            unit="none",
        ),
        8,
        8,
    )


def _memory(board: Board) -> None:
    board.row(say("Memory and swap", "Mémoire et swap"))
    used, cached, free = say("used", "utilisée"), "cache", say("free", "libre")
    board.add(
        curves(
            say("Memory by use", "Mémoire par usage"),
            say(
                "Used is what programs hold and cannot be taken from them; the cache gives way.",
                "Utilisée : ce que tiennent les programmes, sans reprise possible ; le cache cède sa place.",
            ),
            over_time(
                f"node_memory_MemTotal_bytes{{{HOST}}} - node_memory_MemAvailable_bytes{{{HOST}}}",
                "{{host}} " + used,
            ),
            over_time(
                f"node_memory_MemAvailable_bytes{{{HOST}}} - node_memory_MemFree_bytes{{{HOST}}}",
                "{{host}} " + cached,
            ),
            over_time(f"node_memory_MemFree_bytes{{{HOST}}}", "{{host}} " + free),
            unit="bytes",
            stacked=True,
        ),
        6,
        8,
    )
    board.add(
        curves(
            say("Memory in use", "Mémoire utilisée"),
            say(
                "Share that programs hold; the lines are the objective (85 %) and where MemoryCritical alerts.",
                "Part tenue par les programmes ; les lignes sont l'objectif (85 %) et le seuil de MemoryCritical.",
            ),
            over_time(f"host:memory_utilization:ratio{{{HOST}}}", "{{host}}"),
            unit="percentunit",
            at_most=1,
            steps=rising(limits.MEMORY, limits.MEMORY_CRITICAL),
        ),
        6,
        8,
    )
    board.add(
        curves(
            say("Swap", "Swap"),
            say(
                "Swap in use of what there is. Pages that move (below) hurt more than pages that lie there.",
                "Swap utilisé sur le total. Les pages qui bougent gênent plus que celles qui dorment.",
            ),
            over_time(
                f"node_memory_SwapTotal_bytes{{{HOST}}} - node_memory_SwapFree_bytes{{{HOST}}}",
                "{{host}} " + used,
            ),
            over_time(f"node_memory_SwapTotal_bytes{{{HOST}}}", "{{host}} total"),
            unit="bytes",
            no_value=say("no host has swap", "aucun serveur n'a de swap"),
        ),
        6,
        8,
    )
    board.add(
        curves(
            say("Killed for lack of memory", "Tués faute de mémoire"),
            say(
                "Programs that the kernel ended because memory ran out, of a container's limit or of the host; any one "
                "is an alert (OOMKill).",
                "Programmes arrêtés par le noyau faute de mémoire, celle d'un conteneur ou du serveur ; un seul suffit "
                "à alerter (OOMKill).",
            ),
            over_time(f"sum by (host) (increase(node_vmstat_oom_kill{{{HOST}}}[$__rate_interval]))", "{{host}}"),
            unit="none",
            bars=True,
            no_value=say("node_exporter does not tell", "node_exporter ne le dit pas"),
        ),
        6,
        8,
        number=101,
    )


def _disk(board: Board) -> None:
    board.row(say("Disks", "Disques"))
    board.add(
        bars(
            say("Disk by mount", "Disque par montage"),
            say(
                "How full each mount is; orange where DiskSpaceLow warns, red where DiskSpaceCritical alerts.",
                "Remplissage de chaque montage ; orange au seuil de DiskSpaceLow, rouge à celui de DiskSpaceCritical.",
            ),
            now(f"max by (host, mountpoint) (host:disk_utilization:ratio{{{HOST}}})", "{{host}} {{mountpoint}}"),
            at_most=1,
            steps=rising(limits.DISK, limits.DISK_CRITICAL),
        ),
        6,
        8,
    )
    board.add(
        curves(
            say("Free space", "Espace libre"),
            say(
                "What programs other than root may still write.",
                "Ce que les programmes autres que root peuvent encore écrire.",
            ),
            over_time(
                f"max by (host, mountpoint) (node_filesystem_avail_bytes{{{DISKS}, {HOST}}})",
                "{{host}} {{mountpoint}}",
            ),
            unit="bytes",
        ),
        6,
        8,
    )
    board.add(
        bars(
            say("Inodes by mount", "Inodes par montage"),
            say(
                "A disk without inodes takes no new file, however much space is free.",
                "Un disque sans inodes ne prend plus de fichier, même s'il reste de la place.",
            ),
            now(
                f"max by (host, mountpoint) (1 - node_filesystem_files_free{{{DISKS}, {HOST}}}"
                f" / (node_filesystem_files{{{DISKS}, {HOST}}} > 0))",
                "{{host}} {{mountpoint}}",
            ),
            at_most=1,
            steps=rising(limits.INODES),
            no_value=say("no file system counts inodes", "aucun système de fichiers ne compte les inodes"),
        ),
        6,
        8,
    )
    board.add(
        curves(
            say("Disk reads and writes", "Lectures et écritures"),
            say("Bytes a second; writes are above, reads below.", "Octets par seconde ; écritures en haut."),
            over_time(
                f"sum by (host) (rate(node_disk_written_bytes_total{{{HOST}}}[$__rate_interval]))",
                say("{{host}} written", "{{host}} écrits"),
            ),
            over_time(
                f"sum by (host) (rate(node_disk_read_bytes_total{{{HOST}}}[$__rate_interval]))",
                say("{{host}} read", "{{host}} lus"),
            ),
            unit="Bps",
            below=say("read", "lus"),
        ),
        6,
        8,
    )


def _network(board: Board) -> None:
    board.row(say("Network", "Réseau"))
    came, sent = say("in", "entrant"), say("out", "sortant")
    board.add(
        curves(
            say("Traffic in and out", "Trafic entrant et sortant"),
            say(
                "Of the host's own interfaces, without those of containers; out is below.",
                "Des interfaces du serveur, sans celles des conteneurs ; sortant en bas.",
            ),
            over_time(
                f"sum by (host, device) (rate(node_network_receive_bytes_total{{{WIRES}, {HOST}}}[$__rate_interval]))",
                "{{host}} {{device}} " + came,
            ),
            over_time(
                f"sum by (host, device) (rate(node_network_transmit_bytes_total{{{WIRES}, {HOST}}}[$__rate_interval]))",
                "{{host}} {{device}} " + sent,
            ),
            unit="Bps",
            below=sent,
        ),
        12,
        8,
    )
    board.add(
        curves(
            say("Errors and drops", "Erreurs et pertes"),
            say("Packets a second that were lost or broken.", "Paquets perdus ou abîmés par seconde."),
            over_time(
                f"sum by (host, device) (rate(node_network_receive_errs_total{{{WIRES}, {HOST}}}[$__rate_interval])"
                f" + rate(node_network_receive_drop_total{{{WIRES}, {HOST}}}[$__rate_interval])"
                f" + rate(node_network_transmit_errs_total{{{WIRES}, {HOST}}}[$__rate_interval])"
                f" + rate(node_network_transmit_drop_total{{{WIRES}, {HOST}}}[$__rate_interval]))",
                "{{host}} {{device}}",
            ),
            unit="pps",
        ),
        6,
        8,
    )
    board.add(
        curves(
            say("Latency p95", "Latence p95"),
            say("The objective is 100 ms.", "L'objectif est 100 ms."),
            over_time(f"host:network_latency_seconds:p95{{{HOST}}}", "{{host}}"),
            unit="s",
            steps=rising(limits.NETWORK_SECONDS),
        ),
        6,
        8,
    )


def _containers(board: Board) -> None:
    none = say("cAdvisor tells of no container", "cAdvisor ne parle d'aucun conteneur")
    logs = to_logs(say("Its log lines", "Ses lignes de log"), '{job="docker", container="${__field.labels.name}"}')
    board.row(say("Containers", "Conteneurs"))
    board.add(
        curves(
            say("Processor of containers (15 busiest)", "Processeur des conteneurs (15 premiers)"),
            say("Cores that a container uses.", "Cœurs qu'un conteneur utilise."),
            over_time(
                most(15, f"container:cpu_cores:rate5m{{{HOST}}}", "host, name"),
                "{{name}}",
            ),
            unit="none",
            decimals=2,
            no_value=none,
            links=[logs],
        ),
        8,
        9,
    )
    board.add(
        curves(
            say("Memory of containers (15 largest)", "Mémoire des conteneurs (15 premiers)"),
            say(
                "Memory that a container cannot give back: what its limit is held against.",
                "Mémoire qu'un conteneur ne peut rendre : ce que sa limite compte.",
            ),
            over_time(most(15, f"container:memory_working_set_bytes:max5m{{{HOST}}}", "host, name"), "{{name}}"),
            unit="bytes",
            no_value=none,
            links=[logs],
        ),
        8,
        9,
    )
    by = "host, name"
    board.add(
        rows(
            say("All containers", "Tous les conteneurs"),
            say(
                "What each container uses now, its share of its memory limit, and its restarts within a day "
                "(the objective is fewer than 2).",
                "Ce qu'utilise chaque conteneur, sa part de sa limite de mémoire et ses redémarrages en un jour "
                "(l'objectif est moins de 2).",
            ),
            # Not a rate of the last minute: of a calm container cAdvisor has no two samples in it.
            column(f"sum by ({by}) (container:cpu_cores:rate5m{{{HOST}}})"),
            column(f"sum by ({by}) (container_memory_working_set_bytes{{{CONTAINER}}})"),
            column(
                f"sum by ({by}) (container_memory_working_set_bytes{{{CONTAINER}}})"
                f" / (sum by ({by}) (container_spec_memory_limit_bytes{{{CONTAINER}}}) > 0)"
            ),
            column(
                f'label_replace(max by (host, container) (container:restarts:increase1d{{{HOST}}}), "name", "$1", '
                '"container", "(.+)")'
            ),
            columns=[
                Column(
                    "name",
                    say("Container", "Conteneur"),
                    links=(
                        to_logs(
                            say("Its log lines", "Ses lignes de log"), '{job="docker", container="${__value.raw}"}'
                        ),
                    ),
                ),
                Column("host", say("Host", "Serveur")),
                Column("Value #A", say("Cores", "Cœurs"), unit="none", decimals=3),
                Column("Value #B", say("Memory", "Mémoire"), unit="bytes"),
                Column(
                    "Value #C",
                    say("Of its limit", "De sa limite"),
                    unit="percentunit",
                    decimals=0,
                    steps=rising(limits.MEMORY, limits.MEMORY_CRITICAL),
                ),
                Column(
                    "Value #D",
                    say("Restarts 1 d", "Redémarrages 1 j"),
                    unit="none",
                    decimals=0,
                    steps=rising(limits.RESTARTS_A_DAY),
                ),
            ],
            sort=say("Memory", "Mémoire"),
            descending=True,
            no_value=none,
        ),
        8,
        9,
    )
