//! What launchers said, recorded in ci/slurm by `env` (what has no bearing left out), and what documents say of the others.

use super::*;

const SRUN: &str = include_str!("recorded/srun.env");
const SRUN_PMIX: &str = include_str!("recorded/srun-pmix.env");
const SRUN_PMI2: &str = include_str!("recorded/srun-pmi2.env");
const SALLOC: &str = include_str!("recorded/salloc.env");
const SALLOC_MPIRUN: &str = include_str!("recorded/salloc-mpirun.env");
const MPIRUN: &str = include_str!("recorded/mpirun.env");
const SBATCH: &str = include_str!("recorded/sbatch.env");
const SBATCH_SRUN: &str = include_str!("recorded/sbatch-srun.env");

/// Variables, a line each; of one that is there twice the last counts.
fn read(variables: &str) -> Result<Ranks, String> {
    let variable = |name: &str| {
        let mut values = variables.lines().filter_map(|line| line.split_once('='));
        values.rfind(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let file = |path: &str| match path {
        "/nodes" => Ok("n3\nn3\n\nn1\nn1\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Ranks::new(&Environment { variable: &variable, file: &file }).map_err(Failure::into_text)
}

/// In one line: launcher, rank/size, local rank, hosts, where rank 0 is, job.
fn line(variables: &str) -> String {
    let ranks = match read(variables) {
        Ok(ranks) => ranks,
        Err(error) => return error,
    };
    let Ranks { launcher, rank, size, local_rank, hosts, first_host, job } = ranks;
    let local = local_rank.map_or("?".to_owned(), |rank| rank.to_string());
    let [first, job] = [first_host, job].map(|said| said.unwrap_or("?".to_owned()));
    format!("{launcher}: {rank}/{size} local {local} on [{}] first {first} job {job}", hosts.join(" "))
}

#[test]
fn what_launchers_really_said_is_understood() {
    for (variables, expected) in [
        (SRUN, "Slurm: 5/8 local 1 on [h1 h2 h3 h4] first h1 job 1.0"),
        (SRUN_PMIX, "PMIx (Slurm): 2/4 local 0 on [h1 h2 h3 h4] first h1 job slurm.pmix.2.0"),
        (SRUN_PMI2, "PMI (Slurm): 2/4 local 0 on [h1 h2 h3 h4] first h1 job 3.0"),
        (SALLOC_MPIRUN, "Open MPI: 5/8 local 1 on [h1 h2 h3 h4] first h1 job 2312765441"),
        (MPIRUN, "Open MPI: 2/3 local 2 on [] first localhost job 2318860289"),
        (SBATCH_SRUN, "Slurm: 3/4 local 0 on [h1 h2 h3 h4] first h1 job 6.0"),
    ] {
        assert_eq!(line(variables), expected);
    }
}

#[test]
fn in_an_allocation_open_mpi_is_believed_and_not_slurm_whose_task_its_daemon_is() {
    assert!(SALLOC_MPIRUN.contains("\nSLURM_PROCID=1\n") && SALLOC_MPIRUN.contains("\nSLURM_STEP_ID=0\n"));
    assert_eq!(read(SALLOC_MPIRUN).map(|ranks| ranks.rank), Ok(5));
}

#[test]
fn a_process_in_a_job_that_is_no_rank_of_it_is_told_to_use_srun() {
    assert!(SBATCH.contains("\nSLURM_PROCID=0\n"));
    for (variables, job) in [(SBATCH, 6), (SALLOC, 4)] {
        let expected = format!(
            "this process is in Slurm's job {job}, but nobody has made a rank of it: start it by srun, or mpirun; or say \
             --rank, --ranks and --coordinator"
        );
        assert_eq!(line(variables), expected);
    }
    assert!(line("PBS_JOBID=1.pbs").starts_with("this process is in the PBS job 1.pbs"));
}

#[test]
fn what_documents_say_of_other_launchers_is_understood() {
    for (variables, expected) in [
        // MPICH's and Intel's mpiexec, by itself and on one host.
        (
            "PMI_RANK=3\nPMI_SIZE=8\nPMI_FD=9\nMPI_LOCALRANKID=1\nMPI_LOCALNRANKS=2",
            "PMI: 3/8 local 1 on [] first ? job ?",
        ),
        (
            "PMI_RANK=3\nPMI_SIZE=4\nMPI_LOCALRANKID=3\nMPI_LOCALNRANKS=4",
            "PMI: 3/4 local 3 on [] first localhost job ?",
        ),
        // The same as tasks of another launcher's: only its own rank counts.
        ("PMI_RANK=3\nPMI_SIZE=8\nFLUX_TASK_RANK=0\nFLUX_JOB_SIZE=2", "PMI: 3/8 local ? on [] first ? job ?"),
        (
            "PMI_RANK=3\nPMI_SIZE=8\nFLUX_TASK_RANK=3\nFLUX_JOB_SIZE=8\nFLUX_TASK_LOCAL_ID=1\nFLUX_JOB_ID=f2dqsr",
            "PMI (Flux): 3/8 local 1 on [] first ? job f2dqsr",
        ),
        (
            "FLUX_TASK_RANK=3\nFLUX_JOB_SIZE=8\nFLUX_TASK_LOCAL_ID=1\nFLUX_JOB_ID=f2dqsr",
            "Flux: 3/8 local 1 on [] first ? job f2dqsr",
        ),
        (
            "PMI_RANK=2\nPMI_SIZE=4\nPALS_RANKID=2\nPALS_LOCAL_RANKID=0\nPALS_APID=ab-1\nPBS_NODEFILE=/nodes\nPBS_JOBID=7",
            "PMI (PALS): 2/4 local 0 on [n3 n1] first n3 job ab-1",
        ),
        ("PBS_VNODENUM=2\nPBS_NODEFILE=/nodes\nPBS_JOBID=7", "PBS: 2/4 local ? on [n3 n1] first n3 job 7"),
        (
            "JSM_NAMESPACE_RANK=1\nJSM_NAMESPACE_SIZE=2\nJSM_NAMESPACE_LOCAL_RANK=0\nLSB_JOBID=9\nLSB_MCPU_HOSTS=batch1 1 a 42",
            "LSF jsrun: 1/2 local 0 on [] first ? job 9",
        ),
        (
            "LSF_PM_TASKID=2\nLSB_DJOB_NUMPROC=4\nLSB_JOBID=9\nLSB_MCPU_HOSTS=n1 2 n2 2",
            "LSF blaunch: 1/4 local ? on [n1 n2] first n1 job 9",
        ),
        (
            "JOB_COMPLETION_INDEX=2\nWORLD_SIZE=3\nMASTER_ADDR=bench-0.bench",
            "Kubernetes: 2/3 local ? on [] first bench-0.bench job ?",
        ),
        (
            "RANK=2\nWORLD_SIZE=3\nLOCAL_RANK=0\nLOCAL_WORLD_SIZE=1\nMASTER_ADDR=10.0.0.7",
            "RANK: 2/3 local 0 on [] first 10.0.0.7 job ?",
        ),
        (
            "OMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=4\nPBS_NODEFILE=/nodes",
            "Open MPI: 1/4 local ? on [n3 n1] first n3 job ?",
        ),
    ] {
        assert_eq!(line(variables), expected);
    }
}

#[test]
fn what_is_wrong_or_missing_is_named_with_what_to_do() {
    for (variables, expected) in [
        (
            "",
            "nobody says which rank this is (none of OMPI_COMM_WORLD_RANK, PMIX_RANK, PMI_RANK, SLURM_PROCID, ",
        ),
        ("HOME=/root", "is set): start it by srun or mpirun, or say --rank, --ranks and --coordinator"),
        ("OMPI_COMM_WORLD_RANK=", "nobody says which rank this is"),
        ("RANK=1", "nobody says which rank this is"),
        ("OMPI_COMM_WORLD_RANK=one", "OMPI_COMM_WORLD_RANK is 'one', which is no number of ranks"),
        ("OMPI_COMM_WORLD_RANK=-1", "OMPI_COMM_WORLD_RANK is '-1', which is no number of ranks"),
        (
            "OMPI_COMM_WORLD_RANK=1",
            "Open MPI says that this is rank 1 (OMPI_COMM_WORLD_RANK), and OMPI_COMM_WORLD_SIZE is not set; or say --rank",
        ),
        (
            "PMIX_RANK=1",
            "PMIx says that this is rank 1 (PMIX_RANK), and nothing of how many there are; or say --rank",
        ),
        ("PMI_RANK=0\nPMI_SIZE=0", "PMI says that there are no ranks"),
        ("PMI_RANK=4\nPMI_SIZE=4", "PMI says rank 4 of 4, which are 0 to 3"),
        ("LSF_PM_TASKID=0\nLSB_DJOB_NUMPROC=2", "LSF_PM_TASKID is below 1"),
        (
            "PBS_VNODENUM=0\nPBS_NODEFILE=/gone",
            "PBS_NODEFILE names /gone, which cannot be read: entity not found",
        ),
        (
            "JOB_COMPLETION_INDEX=0",
            "WORLD_SIZE is not set: set WORLD_SIZE to the Job's completions, and MASTER_ADDR to",
        ),
        (
            "OMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\nSLURM_JOB_NODELIST=h[1-",
            "SLURM_JOB_NODELIST is 'h[1-', which is no list of hosts: a [ without its ]",
        ),
        ("LSF_PM_TASKID=1\nLSB_DJOB_NUMPROC=2\nLSB_MCPU_HOSTS= ", "LSB_MCPU_HOSTS names no host"),
    ] {
        let said = line(variables);
        assert!(said.contains(expected), "{variables}: {said}");
        assert!(said.ends_with("say --rank, --ranks and --coordinator"), "{said}");
    }
    // What is wrong with a launcher that does not matter does not matter.
    let fine = "OMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\nPMI_RANK=much\nPBS_VNODENUM=1\nPBS_NODEFILE=";
    assert!(read(&fine.replace("PBS_NODEFILE=", "PALS_RANKID=x")).is_ok());
}

#[test]
fn the_ranks_of_a_job_agree_where_to_meet_and_those_of_another_meet_elsewhere() {
    let coordinator =
        |variables: &str| read(variables).and_then(|ranks| ranks.coordinator().map_err(Failure::into_text));
    let other_rank = format!("{SRUN}\nSLURM_PROCID=0\nSLURM_LOCALID=0\nSLURM_NODEID=0\nSLURMD_NODENAME=h1");
    let other_step = format!("{SRUN}\nSLURM_STEP_ID=1");
    assert_eq!(coordinator(SRUN), coordinator(&other_rank));
    assert_ne!(coordinator(SRUN), coordinator(&other_step));
    // By a known value of FNV-1a, since the ranks may run different builds.
    assert_eq!(
        coordinator("RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=fd08::1"),
        Ok("tcp://[fd08::1]:26037".to_owned())
    );
    assert_eq!(
        coordinator("PMI_RANK=3\nPMI_SIZE=8"),
        Err("PMI says that this is rank 3 of 8, but not where rank 0 is: say --coordinator tcp://HOST:PORT, the same for \
             all ranks, with the host on which rank 0 runs"
            .to_owned())
    );
}

#[test]
fn a_sorted_list_does_not_say_where_rank_0_is_when_a_file_decides() {
    let by_file = format!("{SRUN}\nSLURM_STEP_NODELIST=h[2-4]\nSLURM_DISTRIBUTION=arbitrary");
    assert_eq!(line(&by_file), "Slurm: 5/8 local 1 on [h2 h3 h4] first ? job 1.0");
}

#[test]
fn a_rank_0_that_others_look_for_elsewhere_says_so() {
    let of = |variables: &str, host: &str| {
        let ranks = read(variables).unwrap();
        ranks.misplaced(host).map(Failure::into_text)
    };
    let zero = format!("{SRUN}\nSLURM_PROCID=0");
    for host in ["h1", "h1.cluster.example"] {
        assert_eq!(of(&zero, host), None, "{host}");
    }
    let said = of(&zero, "h2").unwrap();
    assert!(said.starts_with("rank 0 is on h2, but the first host that Slurm names is h1"), "{said}");
    assert!(said.contains("--coordinator tcp://h2:"), "{said}");
    // Whoever is not rank 0 cannot know; an address may be anybody's.
    assert_eq!(of(SRUN, "h3"), None);
    assert_eq!(of(&format!("{MPIRUN}\nOMPI_COMM_WORLD_RANK=0"), "h1"), None);
    assert_eq!(of("RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=10.0.0.7", "n1"), None);
}
