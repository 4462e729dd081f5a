//! Which variables each launcher sets, in the order in which they are believed. A table, no code.
//!
//! Run, by ci/slurm (Slurm 22.05, Open MPI 4.1, PMIx 4.2), and recorded for the tests: Open MPI's `mpirun`, alone and in an
//! allocation; `srun` by itself, with PMIx and with PMI-2; `srun` within `sbatch`. All others are read in documents and
//! sources, and have not been run.

/// Who starts processes and tells them so.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) name: &'static str,
    pub(super) rank: &'static str,
    /// The number of the first rank.
    pub(super) first_rank: u32,
    /// What must be set as well, where `rank` alone means something else.
    pub(super) only_with: Option<&'static str>,
    pub(super) size: Size,
    pub(super) local_rank: &'static [&'static str],
    pub(super) local_size: &'static [&'static str],
    /// Which name the job together. None of them: it has no name.
    pub(super) job: &'static [&'static str],
    pub(super) hosts: &'static [Hosts],
    /// What to do where the size is missing.
    pub(super) remedy: &'static str,
}

/// How many ranks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// The first of these that is set.
    Variables(&'static [&'static str]),
    /// So many lines has the file that this names.
    LinesOf(&'static str),
}

/// Where the hosts are; the first source that is there counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hosts {
    /// `n[1-4],x7`
    List(&'static str),
    /// A file with a host on each line.
    LinesOf(&'static str),
    /// `n1 8 n2 8`
    Counts(&'static str),
    /// Only the one where rank 0 is.
    First(&'static str),
}

/// What Open MPI has been given its hosts by.
const OF_AN_ALLOCATION: &[Hosts] =
    &[Hosts::List("SLURM_JOB_NODELIST"), Hosts::LinesOf("PBS_NODEFILE"), Hosts::Counts("LSB_MCPU_HOSTS")];

const UNSAID: Launcher = Launcher {
    name: "",
    rank: "",
    first_rank: 0,
    only_with: None,
    size: Size::Variables(&[]),
    local_rank: &[],
    local_size: &[],
    job: &[],
    hosts: &[],
    remedy: "",
};

pub(super) const LAUNCHERS: &[Launcher] = &[
    // ---- Run ----
    // First, since in an allocation of Slurm's its daemons are Slurm's tasks: SLURM_PROCID is theirs.
    Launcher {
        name: "Open MPI",
        rank: "OMPI_COMM_WORLD_RANK",
        size: Size::Variables(&["OMPI_COMM_WORLD_SIZE"]),
        local_rank: &["OMPI_COMM_WORLD_LOCAL_RANK"],
        local_size: &["OMPI_COMM_WORLD_LOCAL_SIZE"],
        job: &["PMIX_NAMESPACE"],
        hosts: OF_AN_ALLOCATION,
        ..UNSAID
    },
    // The size is asked for by PMIx itself; Slurm says it too.
    Launcher { name: "PMIx", rank: "PMIX_RANK", job: &["PMIX_NAMESPACE"], ..UNSAID },
    // PMI-2 by Slurm is run. MPICH's and Intel's mpiexec (Hydra), which is read, sets these as well; PALS says PMI_LOCAL_*.
    Launcher {
        name: "PMI",
        rank: "PMI_RANK",
        size: Size::Variables(&["PMI_SIZE"]),
        local_rank: &["MPI_LOCALRANKID", "PMI_LOCAL_RANK"],
        local_size: &["MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"],
        job: &["PMI_JOBID"],
        hosts: &[],
        ..UNSAID
    },
    // A batch script has SLURM_PROCID=0 too, but no step.
    Launcher {
        name: "Slurm",
        rank: "SLURM_PROCID",
        only_with: Some("SLURM_STEP_ID"),
        size: Size::Variables(&["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"]),
        local_rank: &["SLURM_LOCALID"],
        job: &["SLURM_JOB_ID", "SLURM_STEP_ID"],
        hosts: &[Hosts::List("SLURM_STEP_NODELIST"), Hosts::List("SLURM_JOB_NODELIST")],
        ..UNSAID
    },
    // ---- Read, and not run ----
    // flux-environment(7). It sets PMI_RANK too, and names no hosts: `flux getattr hostlist` would.
    Launcher {
        name: "Flux",
        rank: "FLUX_TASK_RANK",
        size: Size::Variables(&["FLUX_JOB_SIZE"]),
        local_rank: &["FLUX_TASK_LOCAL_ID"],
        job: &["FLUX_JOB_ID"],
        ..UNSAID
    },
    // mpiexec of PBS on HPE's and Cray's machines. It sets PMI_RANK too.
    Launcher {
        name: "PALS",
        rank: "PALS_RANKID",
        size: Size::Variables(&["PMI_SIZE"]),
        local_rank: &["PALS_LOCAL_RANKID"],
        job: &["PALS_APID"],
        hosts: &[Hosts::LinesOf("PBS_NODEFILE")],
        ..UNSAID
    },
    // pbsdsh of TORQUE; it starts one task for each line of the file.
    Launcher {
        name: "PBS",
        rank: "PBS_VNODENUM",
        only_with: Some("PBS_NODEFILE"),
        size: Size::LinesOf("PBS_NODEFILE"),
        job: &["PBS_JOBID"],
        hosts: &[Hosts::LinesOf("PBS_NODEFILE")],
        ..UNSAID
    },
    // jsrun
    Launcher {
        name: "LSF jsrun",
        rank: "JSM_NAMESPACE_RANK",
        size: Size::Variables(&["JSM_NAMESPACE_SIZE"]),
        local_rank: &["JSM_NAMESPACE_LOCAL_RANK"],
        job: &["LSB_JOBID"],
        // The first that LSB_MCPU_HOSTS names starts jobs and runs none of their ranks.
        ..UNSAID
    },
    // blaunch; it counts from 1.
    Launcher {
        name: "LSF blaunch",
        rank: "LSF_PM_TASKID",
        first_rank: 1,
        size: Size::Variables(&["LSB_DJOB_NUMPROC"]),
        job: &["LSB_JOBID"],
        hosts: &[Hosts::Counts("LSB_MCPU_HOSTS")],
        ..UNSAID
    },
    // Indexed Jobs. Pods are told nothing else, so what is missing comes from the Job's own `env`.
    Launcher {
        name: "Kubernetes",
        rank: "JOB_COMPLETION_INDEX",
        size: Size::Variables(&["WORLD_SIZE"]),
        hosts: &[Hosts::First("MASTER_ADDR")],
        remedy: ": set WORLD_SIZE to the Job's completions, and MASTER_ADDR to JOB-0.SERVICE with a headless Service that the \
                 pods' subdomain names, in the pod template's env",
        ..UNSAID
    },
    // What PyTorch's launchers set; also by hand.
    Launcher {
        name: "RANK",
        rank: "RANK",
        only_with: Some("WORLD_SIZE"),
        size: Size::Variables(&["WORLD_SIZE"]),
        local_rank: &["LOCAL_RANK"],
        local_size: &["LOCAL_WORLD_SIZE"],
        hosts: &[Hosts::First("MASTER_ADDR")],
        ..UNSAID
    },
];

/// Who has jobs in which a process may be without being a rank: a variable, what to call it, and how to start ranks there.
pub(super) const JOBS: &[(&str, &str, &str)] = &[
    ("SLURM_JOB_ID", "Slurm's job", "srun, or mpirun"),
    ("PBS_JOBID", "the PBS job", "mpiexec"),
    ("LSB_JOBID", "the LSF job", "jsrun, blaunch or mpirun"),
    ("FLUX_URI", "the Flux instance", "flux run"),
];
